"""What stands between the policy and the robot: limits on every command, and a watch on what is observed.

LeRobot sends a policy's action to the motors as it is. Here the range and the speed that the labelled demonstrations
had are measured while the decoder trains, live in the checkpoint, and bound what the policy may command; what is not a
number, or follows from an observation that cannot be right, is not sent: the last command is held instead, and the run
is stopped if that goes on.
"""

import logging
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .configuration_lafp import LAFPConfig
from .real_time import Continuation
from .statistics import FixedNormalizer, RunningMoments, RunningRange, at_least_share

logger = logging.getLogger(__name__)

#: A joint that hardly moved in the demonstrations is allowed this share of what the most moving one is.
LEAST_SHARE = 0.1
#: A state may lie this many deviations from the mean of the training; beyond is a broken sensor, or another robot.
STATE_DEVIATIONS = 8.0
#: A picture is frozen if it stays the same, to the bit, while the state moves by this many deviations.
FROZEN_MOVE = 0.1
#: A chunk may come by this many commands later than twice what was expected.
LATER = 4
#: A joint does not follow if it is further behind its command than it ever was in the demonstrations, and yet moves
#: by less than this share of that from frame to frame.
STILL = 0.02


class UnsafeActionError(RuntimeError):
    """The policy cannot be followed any further."""


class SafetyLimits(nn.Module):
    """What the demonstrations did, as buffers of the checkpoint.

    Args:
        action_dim: A.
        state_dim: Width of `observation.state`; 0 without.
        token_dim: D, width of an observation's tokens.
    """

    def __init__(self, action_dim: int, state_dim: int, token_dim: int) -> None:
        super().__init__()
        self.action = RunningRange(action_dim)
        #: Largest change of an action from one frame to the next.
        self.change = RunningRange(action_dim)
        #: How far a commanded position is from where the joint is.
        self.lead = RunningRange(action_dim) if state_dim == action_dim else None
        self.tokens = RunningMoments(token_dim)

    def update(self, actions: Tensor, labeled: Tensor, state: Tensor | None) -> None:
        """Take in a batch.

        Args:
            actions: (B, H, A) as recorded.
            labeled: (B, H), which of them may be used.
            state: (B, S) at the first action, or None.
        """
        self.action.update(actions[labeled])
        both = labeled[:, 1:] & labeled[:, :-1]
        self.change.update((actions[:, 1:] - actions[:, :-1])[both].abs())
        if state is not None and self.lead is not None and labeled.shape[1]:
            first = labeled[:, 0]
            self.lead.update((actions[:, 0] - state)[first].abs())


class SafetyGuard:
    """Follows one run, or B side by side, and bounds what is commanded in it.

    Args:
        config: The policy's: the options ``limit*``.
        limits: What the demonstrations did.
        state: Mean and deviation of `observation.state` in training; None if the policy does not read it.
        clock: Seconds, as they pass for the robot.
    """

    def __init__(
        self,
        config: LAFPConfig,
        limits: SafetyLimits,
        state: FixedNormalizer | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config
        self.clock = clock
        self.limits = limits
        self.state = state
        self.names = config.action_names or [f"action {i}" for i in range(limits.action.low.numel())]
        self._low, self._high = self._range()
        lead = limits.lead
        #: How far behind its command a joint ever was in the demonstrations, (A,).
        self._behind = at_least_share(lead.high, LEAST_SHARE) if lead is not None and lead.seen else None
        self._deviation = None if state is None else at_least_share(state.std, LEAST_SHARE)
        self._change, self._lead = self._largest_changes()
        self._last: Tensor | None = None  # (B, A), what was commanded
        self._state: Tensor | None = None
        self._follows_since = torch.zeros(len(self._low))  # when a joint followed its commands last, (A,)
        self._wrong: str | None = None  # what is wrong with the observation
        self._held: Tensor | None = None  # (B,), commands held in a row
        self._pictures: dict[str, Tensor] = {}
        self._seen_first: dict[str, tuple[float, Tensor]] = {}  # when, and in which state, a camera showed this first
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
            if distance > self.config.limit_distance:
                self._tell(
                    f"sees what it was not trained on: the {what} lies {distance:.1f} deviations from the training's "
                    f"(`limit_distance` {self.config.limit_distance:g})"
                )

    def chunk(self, actions: Tensor, going_on: Continuation | None = None) -> Tensor:
        """What to send in place of a whole chunk (B, H, A), which begins now.

        Args:
            actions: Of the chunk.
            going_on: Where the chunk before is, whose actions are sent until this one is there, and which this one
                repeats until then. When that will be is known but roughly, so for as long again the commands of both
                are within a change of each other.
        """
        self._last = None if going_on is None else going_on.sent
        committed = 0 if going_on is None else going_on.committed
        safe: list[Tensor] = []
        for step, action in enumerate(actions.unbind(dim=1)):
            if step < committed:
                self._last = action
            else:
                self._last = self.command(action)
                if going_on is not None and 1 <= step <= min(2 * committed + LATER, going_on.left.shape[1]):
                    sent, most = going_on.left[:, step - 1], self._change.to(self._last)
                    self._last = torch.maximum(torch.minimum(self._last, sent + most), sent - most)
            safe.append(self._last)
        self._last = None  # how far the robot comes with it is not known here
        return torch.stack(safe, dim=1)

    # --- Bounds --------------------------------------------------------------------------------------------

    def _range(self) -> tuple[Tensor, Tensor]:
        low, high = self.limits.action.widened(self.config.limit_margin, LEAST_SHARE)
        for name, (least, most) in (self.config.limit_range or {}).items():
            index = self._index(name, "limit_range")
            low[index], high[index] = least, most
        return low, high

    def _largest_changes(self) -> tuple[Tensor, Tensor]:
        """From one command to the next, and from where the joints are to the first command, each (A,)."""
        change = self.limits.change
        factor = self.config.limit_change
        step = torch.full_like(self._low, torch.inf)
        if factor is not None and change.seen:
            step = factor * at_least_share(change.high, LEAST_SHARE)
        first = torch.full_like(step, torch.inf)
        if self._behind is not None and self.config.commands_positions and factor is not None:
            first = torch.maximum(step, factor * self._behind)
        if (given := self.config.limit_change_per_s) is not None:
            if self.config.fps is None:
                raise ValueError("`limit_change_per_s` needs the rate of the commands: add --policy.fps.")
            for name, value in given.items():
                index = self._index(name, "limit_change_per_s")
                step[index] = value / self.config.fps
        return step, first

    def _index(self, name: str, option: str) -> int:
        if name not in self.names:
            raise ValueError(f"`{option}` names {name!r}, which is no action of this policy: {', '.join(self.names)}.")
        return self.names.index(name)

    def _bounded(self, action: Tensor) -> Tensor:
        out = action
        if self._last is not None and self.config.limit_smoothing:
            out = torch.lerp(out, self._last.to(out), self.config.limit_smoothing)
        out = torch.maximum(torch.minimum(out, self._high.to(out)), self._low.to(out))
        origin, most = self._last, self._change
        if origin is None and self._state is not None and self.config.commands_positions:
            origin, most = self._state, self._lead
        if origin is not None:
            origin, most = origin.to(out), most.to(out)
            out = torch.maximum(torch.minimum(out, origin + most), origin - most)
        if not torch.equal(out, action) and not self.config.limit_smoothing:
            bounded = self._named((out != action).any(dim=0))
            self._tell(f"keeps {bounded} within the limits of the demonstrations")
        return out

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
        if self.state is None or self._deviation is None:
            return None
        mean, most = self.state.mean.to(state), STATE_DEVIATIONS * self._deviation.to(state)
        bad = ~((state[0] - mean).abs() <= most)  # NaN, too
        if not bool(bad.any()):
            return None
        index = int(bad.nonzero()[0])
        name = self.config.state_names[index] if self.config.state_names else f"dimension {index}"
        return (
            f"the state of {name} is {float(state[0, index]):.4g}, far from any in training ({float(mean[index]):.4g}, "
            f"{float(most[index]):.4g} around it at most). Bring the arm to where the demonstrations were, and see "
            "that it is calibrated as theirs was"
        )

    def _joint_that_does_not_follow(self, before: Tensor | None, state: Tensor, now: float) -> str | None:
        """Whether a joint stays where it is although it is commanded elsewhere: its motor is off, or it is caught."""
        if self._last is None or before is None or self._behind is None or not self.config.commands_positions:
            self._follows_since.fill_(now)
            return None
        behind = self._behind.to(state)
        stuck = ((self._last.to(state) - state).abs() > behind) & ((state - before).abs() < STILL * behind)
        self._follows_since[~stuck[0].cpu()] = now
        caught = now - self._follows_since > self.config.limit_frozen_s
        if not bool(caught.any()):
            return None
        return (
            f"{self._named(caught)} does not follow its commands. See whether something is in the arm's way, and "
            "whether its motors report an overload"
        )

    def _frozen_picture(self, key: str, image: Tensor, state: Tensor, now: float) -> str | None:
        """Whether a camera shows what it showed, to the bit, although the arm moved."""
        before = self._pictures.get(key)
        self._pictures[key] = image
        if before is None or not torch.equal(before, image):
            self._seen_first[key] = (now, state.clone())
        if self._deviation is not None:
            scale = self._deviation
        elif self.config.commands_positions and self.limits.action.seen:
            scale = self.limits.action.width(LEAST_SHARE) / 4
        else:
            return None
        since, then = self._seen_first[key]
        moved = bool(((state - then).abs() / scale.to(state)).amax() > FROZEN_MOVE)
        if not moved or now - since <= self.config.limit_frozen_s:
            return None
        return (
            f"camera {key} has shown the same picture for {now - since:.1f} s while the arm moved. See that it is "
            "connected and delivers"
        )

    # --- Holding -------------------------------------------------------------------------------------------

    def _held_command(self, reason: str, times: int) -> Tensor:
        """The last command, or where the joints are; ``times`` in a row it was held because of ``reason``."""
        hold = self._last
        if hold is None and self.config.commands_positions:
            hold = self._state
        if hold is None or not bool(torch.isfinite(hold).all()):
            raise UnsafeActionError(f"The run is stopped before its first command: {reason}.")
        if times > self.config.limit_held_steps:
            raise UnsafeActionError(
                f"The run is stopped after {self.config.limit_held_steps} commands held in a row: {reason}."
            )
        self._tell(f"holds the last command: {reason}")
        return hold

    def _tell(self, what: str) -> None:
        """A warning, once a run."""
        if what.split(" ")[0] not in self._told:
            self._told.add(what.split(" ")[0])
            logger.warning("LAFP %s.", what)
