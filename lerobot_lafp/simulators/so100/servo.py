"""One STS3215: its registers, and a shaft that follows them at bounded speed and acceleration.

Addresses and encodings are those of LeRobot's own table (`lerobot/motors/feetech/tables.py`). Positions are in steps of
1/4096 of a turn. The shaft turns by ``actual`` steps; what the registers call a position is ``actual - homing offset``.
"""

from lerobot.motors.encoding_utils import decode_sign_magnitude, encode_sign_magnitude
from lerobot.motors.feetech.tables import MODEL_CONTROL_TABLE, MODEL_ENCODING_TABLE, MODEL_NUMBER_TABLE

from .protocol import ErrorFlag

MODEL = "sts3215"
RESOLUTION = 4096
ADDRESSES = MODEL_CONTROL_TABLE[MODEL]
SIGN_BITS = MODEL_ENCODING_TABLE[MODEL]
READ_ONLY = {
    "Firmware_Major_Version",
    "Firmware_Minor_Version",
    "Model_Number",
    "Present_Position",
    "Present_Velocity",
    "Present_Load",
    "Present_Voltage",
    "Present_Temperature",
    "Status",
    "Moving",
    "Present_Current",
}
#: What a servo holds when it comes from the factory; everything else is 0.
FACTORY = {
    "Firmware_Major_Version": 3,
    "Firmware_Minor_Version": 10,
    "Model_Number": MODEL_NUMBER_TABLE[MODEL],
    "Response_Status_Level": 1,
    "Return_Delay_Time": 250,
    "Max_Position_Limit": RESOLUTION - 1,
    "Max_Temperature_Limit": 70,
    "Max_Voltage_Limit": 80,
    "Min_Voltage_Limit": 40,
    "Max_Torque_Limit": 1000,
    "Phase": 12,
    "P_Coefficient": 32,
    "D_Coefficient": 32,
    "Torque_Limit": 1000,
    "Present_Voltage": 74,
    "Present_Temperature": 32,
}
#: Fastest that an unloaded STS3215 turns at 7.4 V, in steps a second (0.222 s for 60 degrees).
MAX_SPEED = 3070.0
#: Acceleration registers count in these, steps / s^2; 0 stands for as fast as it can, as 254 does.
ACCELERATION_UNIT = 100.0
#: Longest stretch that the shaft is moved by at once, in seconds.
TIME_STEP = 0.002

_PROTECTED = {a + i for name in READ_ONLY for a, n in [ADDRESSES[name]] for i in range(n)}


class Servo:
    """Registers and shaft of one servo.

    Args:
        id: Its address on the bus.
        position: Where the shaft is, in steps as the registers count them.
    """

    def __init__(self, id: int, position: float = RESOLUTION // 2) -> None:
        self.memory = bytearray(128)
        self.staged: tuple[int, bytes] | None = None  # of REG_WRITE, until ACTION
        self.error = ErrorFlag.NONE
        self.actual = float(position)
        self.speed = 0.0  # steps / s
        for name, value in {**FACTORY, "ID": id}.items():
            self[name] = value
        self["Goal_Position"] = round(position)
        self._publish()

    @property
    def id(self) -> int:
        return self["ID"]

    def __getitem__(self, name: str) -> int:
        """The signed value of a register by LeRobot's name."""
        address, length = ADDRESSES[name]
        value = int.from_bytes(self.memory[address : address + length], "little")
        return decode_sign_magnitude(value, SIGN_BITS[name]) if name in SIGN_BITS else value

    def __setitem__(self, name: str, value: int) -> None:
        address, length = ADDRESSES[name]
        encoded = encode_sign_magnitude(value, SIGN_BITS[name]) if name in SIGN_BITS else value
        self.memory[address : address + length] = encoded.to_bytes(length, "little")

    def read(self, address: int, length: int) -> bytes:
        """What READ returns; beyond the last register there are zeros."""
        return bytes(self.memory[address : address + length]).ljust(length, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """What WRITE does: registers that only the servo itself sets stay as they are."""
        had_torque = self["Torque_Enable"]
        for at, value in enumerate(data, start=address):
            if at < len(self.memory) and at not in _PROTECTED:
                self.memory[at] = value
        if self["Torque_Enable"] and not had_torque:
            if self.error & ErrorFlag.OVERLOAD:  # switched on again, a servo forgets its overload
                self.error &= ~ErrorFlag.OVERLOAD
            if not address <= ADDRESSES["Goal_Position"][0] < address + len(data):
                self["Goal_Position"] = round(self.position)  # it holds where it is
        self._publish()

    @property
    def position(self) -> float:
        """Where the shaft is, in steps as the registers count them."""
        return self.actual - self["Homing_Offset"]

    def place(self, position: float) -> None:
        """Turn the shaft by hand, at once."""
        self.actual, self.speed = position + self["Homing_Offset"], 0.0
        self["Goal_Position"] = round(position)
        self._publish()

    def overload(self) -> None:
        """What too great a load does: the torque goes off, and every answer says so."""
        self.error |= ErrorFlag.OVERLOAD
        self["Torque_Enable"] = 0
        self._publish()

    def advance(self, seconds: float) -> None:
        """Move the shaft towards its goal for ``seconds``."""
        goal = min(max(self["Goal_Position"], self["Min_Position_Limit"]), self["Max_Position_Limit"])
        distance = goal - self.position
        if not self["Torque_Enable"] or (distance == 0 and self.speed == 0):
            self.speed = 0.0
        else:
            top = min(float(self["Goal_Velocity"]) or MAX_SPEED, MAX_SPEED)
            self._move(distance, seconds, top, ACCELERATION_UNIT * (self["Acceleration"] or 254))
        self._publish()

    def _move(self, distance: float, seconds: float, top: float, acceleration: float) -> None:
        """By ``distance``, if the time suffices, no faster than ``top`` and within the ``acceleration``."""
        speed, left = self.speed, distance
        while seconds > 1e-9 and (left or speed):
            dt = min(seconds, TIME_STEP)
            seconds -= dt
            change = acceleration * dt
            # As fast as it can still brake from, in time steps and not in the limit.
            brakes = change * ((0.25 + 2 * abs(left) / (change * dt)) ** 0.5 - 0.5)
            wanted = min(top, brakes, abs(left) / dt) * (1 if left >= 0 else -1)
            speed += min(max(wanted - speed, -change), change)
            left -= speed * dt
            if abs(left) < 1e-6 and abs(speed) <= change:
                left = speed = 0.0
        self.actual += distance - left
        self.speed = speed

    def _publish(self) -> None:
        self["Present_Position"] = round(self.position)
        self["Present_Velocity"] = round(self.speed)
        self["Moving"] = int(abs(self.speed) > 1)
        self["Status"] = int(self.error)
