"""Imported, LeRobot's driver of Feetech servos waits longer for an answer than its 50 ms.

In those a busy machine may not give the emulator its turn, and most of what the driver writes it writes once. Commands
of LeRobot import this when told `PATIENTLY`.
"""

from lerobot.motors.feetech import feetech
from scservo_sdk import PortHandler

PATIENTLY = f"--robot.discover_packages_path={__name__}"
#: How long it waits, in milliseconds.
PATIENCE_MS = 500

_wait_for = feetech.patch_setPacketTimeout


def _wait_longer(port: PortHandler, packet_length: int) -> None:
    _wait_for(port, packet_length)
    port.packet_timeout = max(port.packet_timeout, PATIENCE_MS)


feetech.patch_setPacketTimeout = _wait_longer
