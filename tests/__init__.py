"""Tests; what LeRobot keeps between runs, frame stores among it, goes to a folder of each run's own."""

import atexit
import os
import shutil
import tempfile

HOME = tempfile.mkdtemp(prefix="lerobot-home-")
os.environ["HF_LEROBOT_HOME"] = HOME  # which LeRobot reads when it is imported, here and in what tests start
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
