"""Time that stands still unless somebody sleeps: for emulated arms, and for who drives them here or in another process.

What is computed takes no time, so a test of time ends the same on every machine, however busy it is. LeRobot's driver
gives an answer up once no answer is under way and its time has passed.
"""

import itertools
import math
import threading
import time as machine
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Protocol

from lerobot.policies.rtc.action_queue import ActionQueue
from lerobot.rollout.inference.rtc import RTCInferenceEngine
from scservo_sdk import PortHandler

from lerobot_lafp import modeling_lafp
from lerobot_lafp.acting.limits import SafetyGuard
from lerobot_lafp.runs import commands
from lerobot_lafp.simulators.so100.arm import SimArm
from lerobot_lafp.simulators.so100.bus import TICK, SimBus

#: The thread in which LeRobot makes chunks beside the steps.
INFERENCE = "RTCInference"
#: Between two looks at what is under way, in seconds of the machine.
PAUSE = 0.0002
Patch = Callable[[Any, str, Any], None]

_sleep = machine.sleep


class Time(Protocol):
    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def traffic(self, port: str) -> tuple[float, float]:
        """Bytes that came to an emulated port and were dealt with, and bytes that went from there.

        As if all had come and none gone where it is unplugged: nobody needs to wait there.
        """


class SimulatedTime:
    """Passes when somebody sleeps, and the arms move meanwhile."""

    def __init__(self) -> None:
        self._now = 0.0
        self._buses: dict[str, SimBus] = {}

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        end = self._now + seconds
        while self._now < end:
            self._now = min(self._now + TICK, end)
            for bus in list(self._buses.values()):
                bus.advance()

    def traffic(self, port: str) -> tuple[float, float]:
        if not Path(port).exists():
            return math.inf, 0
        bus = self._buses[port]
        received = bus.received  # first: its answers have gone by then
        return received, bus.sent

    def governs(self, bus: SimBus) -> SimBus:
        self._buses[bus.port] = bus
        return bus

    def arm(self, link: Path, *arguments: Any, **options: Any) -> SimArm:
        arm = SimArm(link, *arguments, clock=self.now, **options)
        self.governs(arm.bus)
        return arm


class MachineTime(SimulatedTime):
    """For what cannot do without: several processes, each at its own pace."""

    def now(self) -> float:
        return machine.perf_counter()

    def sleep(self, seconds: float) -> None:
        _sleep(seconds)


# --- In another process ----------------------------------------------------------------------------------------------


@contextmanager
def shared(time: Time) -> Iterator[str]:
    """While this lasts, ``TimeElsewhere`` of the address yielded is ``time``."""

    def answer(connection: Connection) -> None:
        with connection:
            try:
                while True:
                    name, arguments = connection.recv()
                    connection.send(getattr(time, name)(*arguments))
            except (EOFError, ConnectionError):  # the process has ended
                pass

    def accept() -> None:
        while True:
            connection = listener.accept()
            if over.is_set():
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    over = threading.Event()
    with Listener(family="AF_UNIX") as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        address = str(listener.address)
        try:
            yield address
        finally:
            over.set()
            Client(address).close()
            accepting.join()


class TimeElsewhere:
    """The ``Time`` of the process that shares it at ``address``."""

    def __init__(self, address: str) -> None:
        self._connection = Client(address)
        self._lock = threading.Lock()

    def _ask(self, name: str, *arguments: Any) -> Any:
        with self._lock:
            self._connection.send((name, arguments))
            return self._connection.recv()

    def now(self) -> float:
        return self._ask("now")

    def sleep(self, seconds: float) -> None:
        self._ask("sleep", seconds)

    def traffic(self, port: str) -> tuple[float, float]:
        return self._ask("traffic", port)


@dataclass(frozen=True)
class CommandInTime:
    """In place of `lerobot_lafp.runs.commands._call_main`: a command whose process lives in the time at ``address``."""

    address: str

    def __call__(self, command: str, arguments: list[str], log: Path | None) -> None:
        time = TimeElsewhere(self.address)
        drive_in(time, setattr)
        live_in(time, setattr)
        commands._call_main(command, arguments, log)


# --- What lives in it ------------------------------------------------------------------------------------------------


def drive_in(time: Time, patch: Patch) -> None:
    """Let LeRobot's driver of Feetech servos wait by ``time``, and only for what is still under way."""
    set_up, read, write, is_over = (
        getattr(PortHandler, name) for name in ("setupPort", "readPort", "writePort", "isPacketTimeout")
    )

    def setup_and_count(port: Any, baud: int) -> bool:
        done = set_up(port, baud)
        port.written, port.taken = time.traffic(port.port_name)
        return done

    def read_and_count(port: Any, length: int) -> bytes:
        data = read(port, length)
        port.taken += len(data)
        return data

    def write_until_it_is_there(port: Any, packet: list[int]) -> int:
        written = write(port, packet)
        port.written += written
        while time.traffic(port.port_name)[0] < port.written:
            _sleep(PAUSE)
        return written

    def is_over_and_nothing_comes(port: Any) -> bool:
        received, sent = time.traffic(port.port_name)
        if received < port.written or port.taken < sent:
            _sleep(PAUSE)
            return False
        time.sleep(0.001)
        return is_over(port)

    patch(PortHandler, "setupPort", setup_and_count)
    patch(PortHandler, "readPort", read_and_count)
    patch(PortHandler, "writePort", write_until_it_is_there)
    patch(PortHandler, "isPacketTimeout", is_over_and_nothing_comes)
    patch(PortHandler, "getCurrentTime", lambda port: time.now() * 1000)


def live_in(time: Time, patch: Patch) -> None:
    """Let the main thread sleep by ``time``, and all that measures how long something takes measure by it."""
    main = threading.main_thread()
    steps = StepsAndChunks()

    def sleep(seconds: float) -> None:
        if threading.current_thread() is main:
            time.sleep(seconds)
            steps.step()
        else:
            _sleep(seconds)

    def perf_counter() -> float:
        early = steps.begin_or_end_chunk() if threading.current_thread().name == INFERENCE else 0.0
        return time.now() - early

    patch(machine, "sleep", sleep)
    patch(machine, "perf_counter", perf_counter)
    patch(ActionQueue, "get_left_over", steps.then_go_on(ActionQueue.get_left_over, thinks=True))
    patch(ActionQueue, "merge", steps.then_go_on(ActionQueue.merge, thinks=False))
    patch(RTCInferenceEngine, "stop", steps.stopped(RTCInferenceEngine.stop))
    patch(modeling_lafp, "SafetyGuard", partial(SafetyGuard, clock=time.now))


class StepsAndChunks:
    """The steps of a rollout, and the chunks that LeRobot makes beside them (`L/rollout/inference/rtc.py`).

    A chunk takes as many steps as ``DELAYS`` say, one after the other, and begins and ends between two steps.
    """

    DELAYS = (1, 3, 2)

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._steps = 0
        self._between_steps = self._thinks = self._over = False
        self._delays = itertools.cycle(self.DELAYS)
        self._due = 0  # the step at which the present chunk is there

    def step(self) -> None:
        """Of the rollout: it is over, and the next one begins when this returns."""
        with self._changed:
            self._steps += 1
            self._between_steps = True
            self._changed.notify_all()
            while any(thread.name == INFERENCE for thread in threading.enumerate()) and not (
                self._thinks and self._steps < self._due
            ):
                self._changed.wait(0.1)
            self._between_steps = False

    def begin_or_end_chunk(self) -> float:
        """Wait for the time to; returns how many seconds before the end of the present step that is."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._over or (self._between_steps and (not self._thinks or self._steps >= self._due))
            )
            if self._thinks:
                return 1e-6  # for a time of N steps to be no more than that
            self._due = self._steps + next(self._delays)
            return 0.0

    def then_go_on(self, call: Callable[..., Any], thinks: bool) -> Callable[..., Any]:
        def and_tell(*arguments: Any, **options: Any) -> Any:
            done = call(*arguments, **options)
            with self._changed:
                self._thinks = thinks
                self._changed.notify_all()
            return done

        return and_tell

    def stopped(self, stop: Callable[..., None]) -> Callable[..., None]:
        def tell_and(engine: RTCInferenceEngine) -> None:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            stop(engine)

        return tell_and
