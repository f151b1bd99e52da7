"""An emulated SO-100: servos that answer on a serial port, a camera that sees the arm, a teleoperator that drives it.

What a checkpoint does on an arm can be tried here first: LeRobot's unmodified `so100_follower`, `so101_follower` and
`bi_so_follower` run against the port as they would against the real one.
"""
