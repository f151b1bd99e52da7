"""A LeRobot camera that sees the emulated arm (`lerobot/cameras/camera.py`)."""

from typing import Any

import numpy as np
from lerobot.cameras import Camera
from lerobot.utils.errors import DeviceNotConnectedError
from numpy.typing import NDArray

from .config_camera import SimArmCameraConfig
from .control import ControlClient
from .picture import draw


class SimArmCamera(Camera):
    """Draws what the arm looks like now. RGB, (height, width, 3), uint8."""

    def __init__(self, config: SimArmCameraConfig) -> None:
        super().__init__(config)
        self.config = config
        self._arm: ControlClient | None = None
        self._last: NDArray[np.uint8] | None = None

    def __str__(self) -> str:
        return f"SimArmCamera({self.config.port}, {self.config.view})"

    @property
    def is_connected(self) -> bool:
        return self._arm is not None

    @staticmethod
    def find_cameras() -> list[dict[str, Any]]:
        """None: an emulated camera is named by its arm's port."""
        return []

    def connect(self, warmup: bool = True) -> None:
        """Find the arm.

        Raises:
            ConnectionError: None runs at the port.
        """
        self._arm = ControlClient(self.config.port)

    def read(self) -> NDArray[np.uint8]:
        """The picture now.

        Raises:
            DeviceNotConnectedError: ``connect`` was not called.
            ConnectionError: The arm is gone.
        """
        if self._arm is None:
            raise DeviceNotConnectedError(f"{self} is not connected: connect() it first.")
        state = self._arm.ask("state")
        if self._last is None or not state["frozen"]:
            size = self.config.height or 0, self.config.width or 0
            self._last = draw(np.array(state["points"]), np.array(state["target"]), *size, self.config.view)
        return self._last.copy()

    def async_read(self, timeout_ms: float = 200) -> NDArray[np.uint8]:
        return self.read()

    def read_latest(self, max_age_ms: int = 500) -> NDArray[np.uint8]:
        return self.read()

    def disconnect(self) -> None:
        if self._arm is not None:
            self._arm.close()
            self._arm = None
