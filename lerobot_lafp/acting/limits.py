"""What stands between the policy and the robot: limits on every command, and a watch on what is observed.

LeRobot sends a policy's action to the motors as it is. Here the range and the speed that the labelled demonstrations
had are measured while the decoder trains, live in the checkpoint, and bound what the policy may command; what is not a
number, or follows from an observation that cannot be right, is not sent: the last command is held instead, of a speed
or a step zero is sent, and the run is stopped if that goes on.

Every bound is of the dimension's own: nothing here depends on the unit of a number, or on its neighbours.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from ..configuration_lafp import LAFPConfig
from ..model.limits import SafetyLimits
from ..options.names import is_motion, numbered
from .bounds import by_place, changes_per_command, largest_change, range_of_commands
from .real_time import Prefix

logger = logging.getLogger(__name__)

#: A state may lie this many deviations outside the range of the training; beyond is a broken sensor, or another robot.
STATE_DEVIATIONS = 5.0
#: A picture is frozen if it stays the same, to the bit, while the state moves by this many deviations.
FROZEN_MOVE = 0.1
#: A chunk may come by this many commands later than twice what was expected.
LATER = 4
#: A joint does not follow if it is further behind its command than it ever was in the demonstrations, and yet moves
#: by less than this share of that from frame to frame.
STILL = 0.02
#: Whether a joint follows can be told if it was commanded over a range of so many times what it was ever behind.
LEAST_TRAVEL = 2.0
#: Commands a second, where the rate of the training is not known.
SOME_RATE = 10.0
#: Observations that come this many times as often as in training are not those of an arm, but of a test of the policy.
FASTER_THAN_AN_ARM = 2.0


#: Seconds that a camera may show the very same picture while the arm moves, and that a joint may stay where it is while
#: it is commanded elsewhere.
FROZEN_S = 2.0
#: Commands held in a row, because there was no right one, before the run is stopped.
MOST_HELD = 10
#: Distance of an observation's tokens, or of latents, to the training's, in deviations, that is warned of.
FAR = 4.0


class UnsafeActionError(RuntimeError):
    """The policy cannot be followed any further."""


class SafetyGuard:
    """Follows one run, or B side by side, and bounds what is commanded in it.

    Args:
        config: The policy's: the options ``limits``.
        limits: What the demonstrations did.
        clock: Seconds, as they pass for the robot.
    """

    def __init__(
        self,
        config: LAFPConfig,
        limits: SafetyLimits,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config
        self.clock = clock
        self.limits = limits
        count = limits.action.low.numel()
        own = config.names_of(ACTION)
        self.names: list[str] = own if own is not None and len(own) == count else numbered("action", count)
        #: Actions that are speeds or steps: to hold these is to send zero, (A,).
        self._motion = torch.tensor([is_motion(name) for name in self.names])
        if config.facts.actions_are_positions is False:
            self._motion = self._motion | limits.far.cpu()
        self._low, self._high = (x.cpu() for x in self._range())
        lead = limits.lead
        #: How far behind its command a joint ever was in the demonstrations, (A,).
        self._behind = lead.high.cpu() if lead is not None and lead.seen and config.commands_positions else None
        self._change, self._lead, self._return = self._largest_changes()
        self._last: Tensor | None = None  # (B, A), what was commanded
        self._state: Tensor | None = None
        self._follows_since = torch.zeros(len(self._low))  # when a joint followed its commands last, (A,)
        self._wrong: str | None = None  # what is wrong with the observation
        self._held: Tensor | None = None  # (B,), commands held in a row
        self._pictures: dict[str, Tensor] = {}
        self._seen_first: dict[str, tuple[float, Tensor]] = {}  # when, and in which state, a camera showed this first
        self._observed: deque[float] = deque()  # when, within `FROZEN_S`
        self._told: set[str] = set()

    @property
    def bounds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Least and largest command, and largest change from one to the next, each (A,); infinite where unlimited."""
        return self._low, self._high, self._change

    def watch(self, images: Mapping[str, Tensor], state: Tensor | None) -> None:
        """Look at what is observed now, before it is acted upon. Several side by side are simulations, and believed.

        Args:
            images: Camera -> (B, C, H, W).
            state: (B, S), or None.
        """
        before, self._state, self._wrong = self._state, state, None
        if state is None or len(state) != 1:
            return
        now = self.clock()
        self._observed.append(now)
        while now - self._observed[0] > max(FROZEN_S, 1.0):
            self._observed.popleft()
        found = [self._unlikely_state(state), self._joint_that_does_not_follow(before, state, now)]
        found += [self._frozen_picture(key, image, state, now) for key, image in images.items()]
        self._wrong = next((what for what in found if what is not None), None)

    def command(self, action: Tensor) -> Tensor:
        """What to send in place of ``action`` (B, A).

        Raises:
            UnsafeActionError: Commands had to be held too many times in a row, or there is nothing to hold.
        """
        reasons = self._not_finite(action)
        if self._wrong is not None:
            reasons[0] = self._wrong
        wrong = torch.zeros(len(action), dtype=torch.bool, device=action.device)
        wrong[list(reasons)] = True
        self._held = torch.where(wrong, 1 if self._held is None else self._held + 1, 0)
        if reasons:
            hold = self._held_command(next(iter(reasons.values())), int(self._held.max()))
            action = torch.where(wrong.unsqueeze(1), hold.to(action), action)
        self._last = torch.where(wrong.unsqueeze(1), action, self._bounded(action))
        return self._last.clone()

    def measure(self, tokens: Tensor, z: Tensor) -> None:
        """Compare an observation and what the policy made of it with the training; say so if they are far from it.

        Args:
            tokens: Of the observation, (B, T, N, D).
            z: Normalised latents, (B, L, Dz).
        """
        known = self.limits.tokens
        far = {"latents": float(z.square().mean(dim=(1, 2)).sqrt().max())}
        if int(known.count):
            apart = known.normalize(tokens.flatten(1, 2).mean(dim=1))
            far["observation"] = float(apart.square().mean(dim=1).sqrt().max())
        logger.debug("Deviations from the training: %s", far)
        for what, distance in far.items():
            if distance > FAR:
                self._tell(
                    f"sees what it was not trained on: the {what} lies {distance:.1f} deviations from the training's "
                    f"(warned of from {FAR:g} on)"
                )

    def chunk(self, actions: Tensor, prefix: Prefix | None = None) -> Tensor:
        """What to send in place of a whole chunk (B, H, A), which begins now.

        Args:
            actions: Of the chunk.
            prefix: Where the chunk before is, whose actions are sent until this one is there, and which this one
                repeats until then. When that will be is known but roughly, so for as long again the commands of both
                are within a change of each other.
        """
        self._last = None if prefix is None else prefix.sent
        committed = 0 if prefix is None else prefix.committed
        safe: list[Tensor] = []
        for step, action in enumerate(actions.unbind(dim=1)):
            if step < committed:
                self._last = action
            else:
                self._last = self.command(action)
                if prefix is not None and 1 <= step <= min(2 * committed + LATER, prefix.left.shape[1]):
                    sent, most = prefix.left[:, step - 1], self._change.to(self._last)
                    self._last = torch.maximum(torch.minimum(self._last, sent + most), sent - most)
            safe.append(self._last)
        self._last = None  # how far the robot comes with it is not known here
        return torch.stack(safe, dim=1)

    # --- Bounds --------------------------------------------------------------------------------------------

    def _range(self) -> tuple[Tensor, Tensor]:
        action, options = self.limits.action, self.config.limits
        chosen = by_place(options.range, self.names, "limits.range")
        return range_of_commands(action.low, action.high, self.limits.width, options.margin, chosen)

    def _largest_changes(self) -> tuple[Tensor, Tensor, Tensor]:
        """From one command to the next, from where the joints are to the first command, and back into the range from
        outside of it, each (A,)."""
        demonstrated, factor = self.limits.change, self.config.limits.change
        step = largest_change(demonstrated.low.cpu(), demonstrated.high.cpu(), factor)
        first = torch.full_like(step, torch.inf)
        if self._behind is not None and factor is not None:
            first = torch.maximum(step, factor * self._behind)
        back = first.clone()
        self._capped = torch.zeros(len(back), dtype=torch.bool)
        chosen = changes_per_command(self.config.limits.change_per_s, self.names, self.config.facts.fps)
        for index, value in chosen.items():
            step[index] = back[index] = value
            self._capped[index] = True
        return step, first, back

    def _bounded(self, action: Tensor) -> Tensor:
        out = action
        if self._last is not None and self.config.limits.smoothing:
            out = torch.lerp(out, self._last.to(out), self.config.limits.smoothing)
        low, high = self._low.to(out), self._high.to(out)
        out = torch.maximum(torch.minimum(out, high), low)
        if self._last is not None:
            origin = self._last.to(out)
            outside = (origin < low) | (origin > high)
            most = torch.where(outside, self._return.to(out), self._change.to(out))
            out = torch.maximum(torch.minimum(out, origin + most), origin - most)
        elif (joints := self._joints(self._state)) is not None:
            origin = joints.to(out)
            self._come_back_within_a_second(torch.maximum(low - origin, origin - high).clamp(min=0).amax(dim=0).cpu())
            most = torch.maximum(self._lead, self._return).to(out)
            out = torch.maximum(torch.minimum(out, origin + most), origin - most)
        told = (out != action).any(dim=0) & (self.limits.width > 0).to(out.device)  # what never moved is just held
        if bool(told.any()) and not self.config.limits.smoothing:
            self._tell(f"keeps {self._named(told)} within the limits of the demonstrations")
        return out

    def _come_back_within_a_second(self, away: Tensor) -> None:
        """Joints that begin ``away`` (A,) from the range of the demonstrations, in which they perhaps never moved."""
        commands = self.config.facts.fps or SOME_RATE
        self._return = torch.where(self._capped, self._return, torch.maximum(self._return, away / commands))

    def _joints(self, state: Tensor | None) -> Tensor | None:
        """Of a state (B, S) where the joint of each action is, (B, A); None where actions are no positions."""
        where = self.config.joint_of_action
        return None if state is None or where is None else state[:, where]

    def _named(self, actions: Tensor) -> str:
        return ", ".join(self.names[i] for i in actions.nonzero().flatten().tolist())

    # --- What is wrong -------------------------------------------------------------------------------------

    def _not_finite(self, action: Tensor) -> dict[int, str]:
        bad = ~torch.isfinite(action)
        return {
            row: f"the action is not a number ({self._named(bad[row])}). Look at the checkpoint's training, and at "
            "what the cameras and joints deliver"
            for row in bad.any(dim=1).nonzero().flatten().tolist()
        }

    def _unlikely_state(self, state: Tensor) -> str | None:
        known = self.limits.state
        deviation = self.limits.state_deviation.to(state)
        if not known.seen or len(deviation) != state.shape[1]:
            return None
        beyond = STATE_DEVIATIONS * deviation
        inside = (state[0] >= known.low.to(state) - beyond) & (state[0] <= known.high.to(state) + beyond)
        bad = ~torch.isfinite(state[0]) | (~inside & (deviation > 0))
        if not bool(bad.any()):
            return None
        index = int(bad.nonzero()[0])
        names = self.config.names_of(OBS_STATE)
        name = names[index] if names and len(names) == len(deviation) else f"dimension {index}"
        return (
            f"the state of {name} is {float(state[0, index]):.4g}, far from any in training "
            f"({known.low[index].item():.4g} to {known.high[index].item():.4g}, {beyond[index].item():.4g} beyond). "
            "Bring the arm to where the demonstrations were, and see that it is calibrated as theirs was"
        )

    def _joint_that_does_not_follow(self, before: Tensor | None, state: Tensor, now: float) -> str | None:
        """Whether a joint stays where it is although it is commanded elsewhere: its motor is off, or it is caught."""
        joints, joints_before = self._joints(state), self._joints(before)
        if self._last is None or joints is None or joints_before is None or self._behind is None:
            self._follows_since.fill_(now)
            return None
        behind = self._behind.to(joints)
        stuck = ((self._last.to(joints) - joints).abs() > behind) & ((joints - joints_before).abs() < STILL * behind)
        told = (self.limits.width.to(joints) > LEAST_TRAVEL * behind) & ~self._motion.to(joints.device)
        self._follows_since[~(stuck[0] & told).cpu()] = now
        caught = now - self._follows_since > FROZEN_S
        if not bool(caught.any()) or self._faster_than_an_arm():
            return None
        return (
            f"{self._named(caught)} does not follow its commands. See whether something is in the arm's way, and "
            "whether its motors report an overload. If no arm is attached, and one observation is asked again and "
            "again, add --policy.limits.enabled=false"
        )

    def _faster_than_an_arm(self) -> bool:
        """Whether observations come so fast that they are those of a test, such as of the policy's latency."""
        span = self._observed[-1] - self._observed[0]
        if self.config.facts.fps is None or span <= 0:
            return False
        return (len(self._observed) - 1) / span > FASTER_THAN_AN_ARM * self.config.facts.fps

    def _frozen_picture(self, key: str, image: Tensor, state: Tensor, now: float) -> str | None:
        """Whether a camera shows what it showed, to the bit, although the arm moved."""
        before = self._pictures.get(key)
        self._pictures[key] = image
        if before is None or not torch.equal(before, image):
            self._seen_first[key] = (now, state.clone())
        if bool((self.limits.state_deviation > 0).any()):
            scale = torch.where(self.limits.state_deviation > 0, self.limits.state_deviation, torch.inf)
        elif self.config.joint_of_action == list(range(state.shape[1])) and self.limits.action.seen:
            scale = self.limits.width / 4
        else:
            return None
        since, then = self._seen_first[key]
        moved = bool(((state - then).abs() / scale.to(state)).amax() > FROZEN_MOVE)
        if not moved or now - since <= FROZEN_S:
            return None
        return (
            f"camera {key} has shown the same picture for {now - since:.1f} s while the arm moved. See that it is "
            "connected and delivers"
        )

    # --- Holding -------------------------------------------------------------------------------------------

    def _held_command(self, reason: str, times: int) -> Tensor:
        """The last command, or where the joints are, zero for speeds and steps; ``times`` in a row it was held because
        of ``reason``."""
        hold = self._last if self._last is not None else self._joints(self._state)
        if hold is None and bool(self._motion.all()):
            hold = torch.zeros(1, len(self._motion))
        if hold is not None:
            hold = torch.where(self._motion.to(hold.device), torch.zeros_like(hold), hold)
        if hold is None or not bool(torch.isfinite(hold).all()):
            raise UnsafeActionError(f"The run is stopped before its first command: {reason}.")
        if times > MOST_HELD:
            raise UnsafeActionError(f"The run is stopped after {MOST_HELD} commands held in a row: {reason}.")
        self._tell(f"holds {'still' if bool(self._motion.any()) else 'the last command'}: {reason}")
        return hold

    def _tell(self, what: str) -> None:
        """A warning, once a run."""
        if what.split(" ")[0] not in self._told:
            self._told.add(what.split(" ")[0])
            logger.warning("LAFP %s.", what)
