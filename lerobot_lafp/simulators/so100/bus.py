"""The serial port that the servos answer on: a pseudo-terminal, served by a thread of ours."""

import os
import select
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from .faults import Fault, Faults
from .protocol import BROADCAST, ErrorFlag, Instruction, Packet, PacketReader, status
from .servo import ADDRESSES, Servo

#: Longest time that passes without the shafts being moved, in seconds.
TICK = 0.01
#: Commands that are remembered.
REMEMBERED = 100_000
GOAL_ADDRESS, GOAL_LENGTH = ADDRESSES["Goal_Position"]


class SimBus:
    """A daisy chain of servos behind a port.

    Args:
        servos: The chain.
        link: Where the port is to be found, a symbolic link to the pseudo-terminal. Unset: its own name.
        faults: What goes wrong.
        clock: Seconds; the shafts move by it.
        on_tick: Called with the time whenever the shafts have moved, under ``lock``.
    """

    def __init__(
        self,
        servos: Sequence[Servo],
        link: Path | None = None,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.perf_counter,
        on_tick: Callable[[float], None] = lambda now: None,
    ) -> None:
        self.servos = list(servos)
        self.link = link
        self.faults = faults or Faults()
        self.clock = clock
        self.on_tick = on_tick
        self.lock = threading.RLock()
        #: (time, servo, goal position in steps), in the order they came over the wire.
        self.goals: deque[tuple[float, int, int]] = deque(maxlen=REMEMBERED)
        #: Bytes that came over the wire and were dealt with, and bytes that went.
        self.received = self.sent = 0
        self._late: list[tuple[float, bytes]] = []  # answers on hold, and when each of them is due
        self._ends: tuple[int, int] | None = None  # our end of the pseudo-terminal, the driver's end
        self._back_at: float | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._moved = clock()

    @property
    def port(self) -> str:
        """What to give LeRobot as ``--robot.port``.

        Raises:
            RuntimeError: It is not started, or unplugged and without a link.
        """
        if self.link is not None:
            return str(self.link)
        if self._ends is None:
            raise RuntimeError("the emulated port is not there: start() it first.")
        return os.ttyname(self._ends[1])

    def start(self) -> "SimBus":
        """Open the port and answer on it until ``stop``."""
        if self.link is not None and (self.link.exists() or self.link.is_symlink()):
            if not _is_dead_link(self.link):
                raise FileExistsError(f"{self.link} exists: an emulated arm may be running there. Take another --port.")
            self.link.unlink()
        self._plug()
        self._thread = threading.Thread(target=self._serve, name="sim-arm bus", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port; its link goes, too."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._unplug()

    def __enter__(self) -> "SimBus":
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def inject(self, fault: Fault) -> None:
        """Let a fault happen from now on."""
        with self.lock:
            now = self.clock()
            if fault.kind == "unplug":
                self._unplug()
                self._back_at = None if fault.seconds is None else now + fault.seconds
            elif fault.kind == "overload":
                for servo in self._those(fault.servos):
                    servo.overload()
            else:
                self.faults.add(fault, now)

    def mend(self) -> None:
        """End all faults; answers that are late by now never come."""
        with self.lock:
            self.faults.clear()
            self._late.clear()
            for servo in self.servos:
                servo.error = ErrorFlag.NONE
            if self._ends is None:
                self._plug()

    def advance(self) -> float:
        """Move the shafts up to now, which it returns; late answers go when they are due."""
        with self.lock:
            now = self.clock()
            for servo in self.servos:
                servo.advance(now - self._moved)
            self._moved = now
            self.on_tick(now)
            due = [answer for at, answer in self._late if at <= now]
            self._late = [(at, answer) for at, answer in self._late if at > now]
            for answer in due:
                self._send(answer)
            return now

    def _those(self, ids: Sequence[int]) -> list[Servo]:
        return [servo for servo in self.servos if not ids or servo.id in ids]

    def _plug(self) -> None:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._ends, self._back_at = (ours, theirs), None
        if self.link is not None:
            self.link.parent.mkdir(parents=True, exist_ok=True)
            self.link.unlink(missing_ok=True)
            self.link.symlink_to(os.ttyname(theirs))

    def _unplug(self) -> None:
        if self._ends is None:
            return
        for end in self._ends:
            os.close(end)
        self._ends = None
        self._late.clear()
        if self.link is not None:
            self.link.unlink(missing_ok=True)

    def _serve(self) -> None:
        reader = PacketReader()
        while not self._stop.is_set():
            with self.lock:
                now = self.advance()
                if self._ends is None and self._back_at is not None and now >= self._back_at:
                    self._plug()
                    reader = PacketReader()
                ours = None if self._ends is None else self._ends[0]
            if ours is None:
                time.sleep(TICK)
                continue
            try:
                ready = select.select([ours], [], [], TICK)[0]
                data = os.read(ours, 4096) if ready else b""
            except (OSError, ValueError):  # unplugged in between
                continue
            for packet in reader.feed(data):
                self._answer(packet)
            self.received += len(data)

    def _answer(self, packet: Packet) -> None:
        with self.lock:
            now = self.advance()
            for servo, answer in self._handle(packet):
                answer, late = self.faults.spoil(answer, servo, now)
                if late:
                    self._late.append((now + late, answer))
                else:
                    self._send(answer)

    def _send(self, answer: bytes) -> None:
        if answer and self._ends is not None:
            self.sent += os.write(self._ends[0], answer)

    def _handle(self, packet: Packet) -> list[tuple[int, bytes]]:
        """What each servo answers to an instruction, in their order on the wire."""
        parameters = packet.parameters
        everyone = packet.id == BROADCAST
        addressed = self.servos if everyone else [servo for servo in self.servos if servo.id == packet.id]
        match packet.instruction:
            case Instruction.PING:
                return [(servo.id, status(servo.id, servo.error)) for servo in addressed]
            case Instruction.READ if len(parameters) == 2 and not everyone:
                address, length = parameters
                return [(s.id, status(s.id, s.error, s.read(address, length))) for s in addressed]
            case Instruction.WRITE if parameters:
                for servo in addressed:
                    self._write(servo, parameters[0], parameters[1:])
            case Instruction.REG_WRITE if parameters:
                for servo in addressed:
                    servo.staged = parameters[0], parameters[1:]
            case Instruction.ACTION:
                for servo in addressed:
                    if servo.staged is not None:
                        self._write(servo, *servo.staged)
                        servo.staged = None
            case Instruction.SYNC_READ if len(parameters) > 2 and everyone:
                address, length, *ids = parameters
                asked = [servo for id in ids for servo in self.servos if servo.id == id]
                return [(s.id, status(s.id, s.error, s.read(address, length))) for s in asked]
            case Instruction.SYNC_WRITE if len(parameters) > 2 and everyone:
                address, length = parameters[:2]
                for at in range(2, len(parameters) - length, length + 1):
                    for servo in self.servos:
                        if servo.id == parameters[at]:
                            self._write(servo, address, parameters[at + 1 : at + 1 + length])
                return []
            case _:
                return []
        silent = everyone or any(servo["Response_Status_Level"] == 0 for servo in addressed)
        return [] if silent else [(packet.id, status(packet.id, servo.error)) for servo in addressed]

    def _write(self, servo: Servo, address: int, data: bytes) -> None:
        servo.write(address, data)
        if address <= GOAL_ADDRESS <= address + len(data) - GOAL_LENGTH:
            self.goals.append((self.clock(), servo.id, servo["Goal_Position"]))


def _is_dead_link(path: Path) -> bool:
    """Whether a link was left behind by an arm that is gone. A terminal that somebody else got by now is not ours."""
    return path.is_symlink() and not path.exists()
