"""Packets of the Feetech STS protocol: instructions in, status out. Bytes alone, no servo and no port.

    instruction    FF FF  id  length  instruction  parameters ..  checksum
    status         FF FF  id  length  error        parameters ..  checksum

``length`` counts what follows it; the checksum is the inverted low byte of the sum of all between header and itself
(`scservo_sdk/protocol_packet_handler.py`, which LeRobot speaks it by).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

HEADER = b"\xff\xff"
BROADCAST = 0xFE


class Instruction(IntEnum):
    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class ErrorFlag(IntFlag):
    """Bits of a status packet's error byte."""

    NONE = 0
    VOLTAGE = 1
    ANGLE = 2
    OVERHEAT = 4
    OVERCURRENT = 8
    OVERLOAD = 32


@dataclass(frozen=True)
class Packet:
    """An instruction as it came over the wire."""

    id: int
    instruction: int
    parameters: bytes


def checksum(body: Sequence[int]) -> int:
    """Of everything between header and checksum."""
    return ~sum(body) & 0xFF


def status(servo: int, error: int, parameters: bytes = b"") -> bytes:
    """A status packet of ``servo``."""
    body = bytes([servo, len(parameters) + 2, error]) + parameters
    return HEADER + body + bytes([checksum(body)])


class PacketReader:
    """Finds the instructions in what a port delivers, however it is cut; what is broken is skipped, as servos do."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that ``data`` completes."""
        self._rest += data
        while (start := self._rest.find(HEADER)) >= 0:
            packet = self._rest[start:]
            if len(packet) < 4 or len(packet) < 4 + packet[3]:
                self._rest = packet
                return
            length = packet[3]
            body, end = packet[2 : 3 + length], 4 + length
            if length >= 2 and packet[2] != 0xFF and packet[end - 1] == checksum(body):
                self._rest = packet[end:]
                yield Packet(packet[2], packet[4], packet[5 : end - 1])
            else:
                self._rest = packet[1:]  # no packet began here
        self._rest = self._rest[-1:] if self._rest.endswith(b"\xff") else b""
