"""``lafp``: one file a command, which parses, calls one function of another room, and prints.

Nothing here imports torch, LeRobot or numpy before a command runs, so that help and completion come at once.
"""
