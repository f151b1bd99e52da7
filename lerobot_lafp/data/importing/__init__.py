"""Video and other people's datasets -> one LeRobotDataset without actions."""
