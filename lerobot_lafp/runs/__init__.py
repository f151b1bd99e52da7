"""LeRobot's own commands, run one after the other: the three stages, the demo."""
