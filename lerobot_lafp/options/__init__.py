"""What a configuration is made of, without torch or LeRobot."""
