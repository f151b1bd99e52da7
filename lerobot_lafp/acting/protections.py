"""What stands between a policy and a robot: which protections are on, and why the others are not."""

from dataclasses import dataclass, replace

from lerobot.utils.constants import OBS_STATE

from ..configuration_lafp import LAFPConfig


@dataclass(frozen=True)
class Protection:
    """Something that stands between a policy and a robot.

    Attributes:
        name: What it does.
        on: Whether it does, with this policy.
        why: What it goes by, or why it is off.
        needs_names: Whether it takes names that actions and states share.
    """

    name: str
    on: bool
    why: str
    needs_names: bool = False


def protections(config: LAFPConfig) -> list[Protection]:
    """All there are, of a policy that acts: which of them are on, and why the others are not."""
    joints = "actions are named as the joints of `observation.state`"
    no_joints = "actions are not named as joints of `observation.state`"
    if config.facts.actions_are_positions is False:
        no_joints = "actions are no positions: they were far from the joints of their names in the demonstrations"
    no_camera = "the policy has no camera"
    if config.relative_actions:
        joints = "actions are relative to `observation.state`"
    state = (config.input_features or {}).get(OBS_STATE) is not None
    no_state = "the policy has no `observation.state`"
    watched = bool(config.camera_shapes) and state
    table = [
        ("commands stay within the demonstrated range", True, "measured on labelled demonstrations", False),
        ("commands change no faster than demonstrated", config.limits.change is not None, "`limits.change`", False),
        ("the first command starts from where the joints are", config.commands_positions, joints, True),
        ("a joint that does not follow its commands stops the run", config.commands_positions, joints, True),
        ("NaN commands are not sent", True, "the last command, or standing still, in their place", False),
        ("a state far from the demonstrations stops the run", state, "ranges of `observation.state`", False),
        ("a frozen camera stops the run", watched, "the state moves, and the picture does not", False),
    ]
    found = []
    for name, on, why, needs_names in table:
        off = (
            no_state if not state else no_joints if needs_names else no_camera if "camera" in name else "not asked for"
        )
        reason = why if on else off
        found.append(Protection(name, on, reason, needs_names))
    if not config.limits.enabled:
        return [replace(each, on=False, why="--policy.limits.enabled=false") for each in found]
    return found
