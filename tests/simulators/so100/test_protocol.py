"""The packets, against what Feetech's own SDK makes and understands."""

import pytest
from scservo_sdk.protocol_packet_handler import protocol_packet_handler

from lerobot_lafp.simulators.so100.protocol import ErrorFlag, Instruction, Packet, PacketReader, checksum, status

PING_1 = bytes([0xFF, 0xFF, 1, 2, 1, 0xFB])  # from the servo's manual


class _Port:
    """As much of the SDK's port as its packets need."""

    is_using = False

    def __init__(self, waiting: bytes = b"") -> None:
        self.written = b""
        self.waiting = waiting

    def clearPort(self) -> None:  # noqa: N802
        pass

    def writePort(self, packet: list[int]) -> int:  # noqa: N802
        self.written += bytes(packet)
        return len(packet)

    def readPort(self, length: int) -> bytes:  # noqa: N802
        found, self.waiting = self.waiting[:length], self.waiting[length:]
        return found

    def setPacketTimeout(self, length: int) -> None:  # noqa: N802
        pass

    def isPacketTimeout(self) -> bool:  # noqa: N802
        return not self.waiting


def test_checksum_is_the_manuals() -> None:
    assert checksum(PING_1[2:-1]) == PING_1[-1]


def test_instructions_of_the_sdk_are_understood() -> None:
    port, sdk = _Port(), protocol_packet_handler()
    sdk.readTx(port, 3, 56, 2)
    port.is_using = False
    sdk.writeTxOnly(port, 3, 42, 2, [0x12, 0x08])
    sdk.syncReadTx(port, 56, 2, [1, 2], 2)
    assert list(PacketReader().feed(port.written)) == [
        Packet(3, Instruction.READ, bytes([56, 2])),
        Packet(3, Instruction.WRITE, bytes([42, 0x12, 0x08])),
        Packet(0xFE, Instruction.SYNC_READ, bytes([56, 2, 1, 2])),
    ]


def test_status_is_understood_by_the_sdk() -> None:
    port = _Port(status(5, ErrorFlag.OVERLOAD, bytes([0x34, 0x02])))
    data, result, error = protocol_packet_handler().readRx(port, 5, 2)
    assert (data, result, error) == ([0x34, 0x02], 0, ErrorFlag.OVERLOAD)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_packets_are_found_however_they_are_cut(size: int) -> None:
    noise = bytes([0, 0xFF, 0x10, 0xFF, 0xFF, 0xFF, 1, 2, 9, 9])
    data = noise + PING_1 + PING_1
    reader = PacketReader()
    found = [packet for at in range(0, len(data), size) for packet in reader.feed(data[at : at + size])]
    assert found == [Packet(1, Instruction.PING, b"")] * 2


def test_a_wrong_checksum_is_no_packet() -> None:
    reader = PacketReader()
    assert not list(reader.feed(PING_1[:-1] + b"\x00"))
    assert list(reader.feed(PING_1)) == [Packet(1, Instruction.PING, b"")]
