"""Videos in, latent labels out: LeRobotDatasets made from what is not one, or not yet the right one."""
