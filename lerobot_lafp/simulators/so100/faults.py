"""What can go wrong with the arm, on demand."""

import random
from dataclasses import dataclass, field
from typing import Literal, get_args

FaultKind = Literal["silence", "late", "flip", "overload", "unplug", "freeze"]
KINDS: tuple[str, ...] = get_args(FaultKind)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: ``silence``: no answer. ``late``: answers after ``amount`` seconds. ``flip``: one bit of an answer is
            wrong, with probability ``amount``. ``overload``: the servo switches its torque off and says so in every
            answer, until its torque is switched on again. ``unplug``: the port goes away; it comes back after
            ``seconds``. ``freeze``: the camera shows the same picture again and again.
        servos: Ids of those it befalls; empty: all.
        seconds: How long it lasts. Unset: until it is cleared.
        amount: See ``kind``.
    """

    kind: FaultKind
    servos: tuple[int, ...] = ()
    seconds: float | None = None
    amount: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind!r}: take one of {', '.join(KINDS)}.")
        if not self.amount >= 0 or (self.seconds is not None and not self.seconds > 0):
            raise ValueError(f"a fault's amount is at least 0 and its seconds are more: got {self}.")


@dataclass
class Faults:
    """The faults of a bus, and what they do to an answer."""

    seed: int = 0
    _active: list[tuple[Fault, float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def add(self, fault: Fault, now: float) -> None:
        self._active.append((fault, None if fault.seconds is None else now + fault.seconds))

    def clear(self) -> None:
        self._active.clear()

    def active(self, kind: FaultKind, servo: int, now: float) -> Fault | None:
        """The fault of this kind that befalls ``servo`` at time ``now``, if any."""
        self._active = [(fault, end) for fault, end in self._active if end is None or now < end]
        befalling = (f for f, _ in self._active if f.kind == kind and (not f.servos or servo in f.servos))
        return next(befalling, None)

    def spoil(self, answer: bytes, servo: int, now: float) -> tuple[bytes, float]:
        """What of a servo's answer goes over the wire, and how many seconds late."""
        if self.active("silence", servo, now):
            return b"", 0.0
        late = self.active("late", servo, now)
        flip = self.active("flip", servo, now)
        if flip and self._random.random() < flip.amount:
            at = self._random.randrange(len(answer))
            answer = answer[:at] + bytes([answer[at] ^ 1 << self._random.randrange(8)]) + answer[at + 1 :]
        return answer, late.amount if late else 0.0
