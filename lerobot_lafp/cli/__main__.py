"""``python -m lerobot_lafp.cli``: the same as ``lafp``, for ``torchrun -m``."""

import sys

from .main import main

sys.exit(main())
