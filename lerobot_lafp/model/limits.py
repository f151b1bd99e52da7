"""What the demonstrations did, as buffers of the checkpoint; ``acting.limits`` bounds commands by it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..observation.scaling import Spread
from .running_statistics import RunningMoments, RunningRange


class SafetyLimits(nn.Module):
    """What the demonstrations did, as buffers of the checkpoint.

    Args:
        action_dim: A.
        state_dim: Width of `observation.state`; 0 without.
        token_dim: D, width of an observation's tokens.
    """

    state_deviation: Tensor
    width: Tensor

    def __init__(self, action_dim: int, state_dim: int, token_dim: int) -> None:
        super().__init__()
        self.action = RunningRange(action_dim)
        #: Of the actions' range, by which it may be left: `limits.margin` times this, (A,).
        self.register_buffer("width", torch.zeros(action_dim))
        #: Largest change of an action from one frame to the next.
        self.change = RunningRange(action_dim)
        #: How far a commanded position is from where the joint is; measured where there is a state.
        self.lead = RunningRange(action_dim) if state_dim else None
        #: Of every dataset that the decoder was trained on.
        self.state = RunningRange(state_dim)
        #: By what a dimension of the state is said to move, (S,); 0 where it was held still, and nothing can be said.
        self.register_buffer("state_deviation", torch.zeros(state_dim))
        self.tokens = RunningMoments(token_dim)

    def update(self, actions: Tensor, labeled: Tensor, state: Tensor | None, joints: Tensor | None = None) -> None:
        """Take in a batch.

        Args:
            actions: (B, H, A) as recorded.
            labeled: (B, H), which of them may be used.
            state: (B, S) at the first action, or None.
            joints: (B, A), of ``state`` where the joint of each action is; None where that is not known.
        """
        self.action.update(actions[labeled])
        self.width.copy_(self.action.width)
        both = labeled[:, 1:] & labeled[:, :-1]
        self.change.update((actions[:, 1:] - actions[:, :-1])[both].abs())
        if state is not None and len(self.state_deviation):
            self.state.update(state[torch.isfinite(state).all(dim=1)])
        if joints is not None and self.lead is not None and labeled.shape[1]:
            first = labeled[:, 0]
            self.lead.update((actions[:, 0] - joints)[first].abs())

    @torch.no_grad()
    def take_commands(self, found: Mapping[str, Any]) -> None:
        """Take in what all labelled commands did, not only those drawn (``measuring.measure_commands``)."""
        of = {name: torch.as_tensor(x).to(self.width).unsqueeze(0) for name, x in found.items()}
        self.action.update(torch.cat([of["min"], of["max"]]))
        self.change.update(of["change"])
        if "lead" in of and self.lead is not None:
            self.lead.update(of["lead"])
        self.width.copy_(self.action.width)

    @property
    def far(self) -> Tensor:
        """Actions that were further from the joint of their name than they range: no place of it, (A,)."""
        if self.lead is None or not self.lead.seen:
            return torch.zeros_like(self.width, dtype=torch.bool)
        return (self.width > 0) & (self.lead.high > self.width)

    @property
    def shows_positions(self) -> bool | None:
        """Whether most of the actions that moved were near the joints of their names; None where that is not known."""
        moved = int((self.width > 0).sum())
        if self.lead is None or not self.lead.seen or not moved:
            return None
        return 2 * int(self.far.sum()) <= moved

    @torch.no_grad()
    def take_state(self, stats: Mapping[str, Any]) -> None:
        """Take in the statistics of ``observation.state`` in a dataset: all of its frames, not only those drawn."""
        spread = Spread.of(stats)
        deviation = torch.where(spread.moved, spread.scale, 0.0).to(self.state_deviation)
        torch.maximum(self.state_deviation, deviation, out=self.state_deviation)
        if "min" in stats and "max" in stats:
            ends = [torch.as_tensor(stats[name], dtype=torch.float32).flatten() for name in ("min", "max")]
            ends = [end for end in ends if bool(torch.isfinite(end).all())]
            self.state.update(
                torch.stack(ends).to(self.state.low) if ends else self.state.low.new_zeros(0, len(deviation))
            )
