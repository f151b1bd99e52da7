"""The task of the package `lerobot-env-so101` that `so101.py` trains on: the environment, and what is recorded in it.

`--env.discover_packages_path=so101_sim --env.type=so101_pick_place` gives the environment to any of LeRobot's commands
that is started with `PYTHONPATH=benchmarks`.
"""
