"""`lerobot-train` and `lerobot-rollout`: what makes no difference to a robot makes none to what they do."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.runs.trainings import last_checkpoint
from lerobot_lafp.simulators.so100.arm import CALIBRATION, SimArm
from lerobot_lafp.simulators.so100.kinematics import JOINTS

from ..metamorphic import ACTION, FPS, STATE, Data, commands, demonstrations, frames_of
from ..simulated_time import SimulatedTime
from .conftest import SHORT, TINY, Finished, assert_same_weights

Run = Callable[..., Finished]
#: Where the joints of the emulated arm go in the demonstrations, in degrees and the gripper in percent: to places that
#: no two of them share.
SPANS = ((-5, 5), (20, 30), (40, 50), (60, 70), (-40, -30), (80, 90))


@pytest.fixture
def train(run: Run, tmp_path: Path) -> Callable[..., Path]:
    """``train(name, root, *options)``: a short `lerobot-train` on a dataset; the folder of its run."""

    def call(name: str, root: Path, *options: str) -> Path:
        data = [f"--dataset.repo_id=local/{root.name}", f"--dataset.root={root}"]
        done = run("lerobot-train", *data, *SHORT, *options, f"--output_dir={tmp_path / name}")
        assert done.ok, done.output[-3000:]
        return tmp_path / name

    return call


def goes_on(output: Path) -> str:
    return f"--policy.path={last_checkpoint(output)}"


def degrees(arm: SimArm, servo: int) -> np.ndarray:
    """What a servo was commanded to, over the wire."""
    of = list(CALIBRATION.values())[servo - 1]
    goals = np.array([goal for _, each, goal in arm.bus.goals if each == servo])
    if servo == len(CALIBRATION):
        return (goals - of["range_min"]) / (of["range_max"] - of["range_min"]) * 100
    return (goals - (of["range_min"] + of["range_max"]) / 2) * 360 / 4095


def test_joints_in_another_order(
    train: Callable[..., Path], run: Run, simulated_time: SimulatedTime, tmp_path: Path
) -> None:
    share = np.linspace(0, 1, 24)[:, None]
    place = np.array([low for low, _ in SPANS]) + 10 * share
    names = [f"{joint}.pos" for joint in JOINTS]
    own = Data({STATE: [place, place], ACTION: [place + 0.1] * 2}, {STATE: names, ACTION: names})
    order = sorted(range(6), key=lambda i: names[i])  # as ROS exports them
    alphabetical = own.permuted({STATE: order, ACTION: order})
    first, second = own.write(tmp_path / "robot"), alphabetical.write(tmp_path / "alphabetical")

    absolute = ["--policy.type=lafp", *TINY, "--policy.relative_actions=false"]  # so that it goes where it was shown
    trained = train("trained", first, *absolute)
    assert_same_weights(*(train(f"more_on_{root.name}", root, goes_on(trained)) for root in (first, second)))

    (tmp_path / "sim.json").write_text(json.dumps(CALIBRATION))
    wrong = json.dumps({ACTION: [*names[:4], "yaw.pos", "jaw"]})
    for output, renamed in (
        (trained, None),
        (train("of_alphabetical", second, *absolute), None),
        (trained, f"--policy.names={wrong}"),
    ):
        with simulated_time.arm(tmp_path / "arm") as arm:
            done = run(
                "lerobot-rollout",
                goes_on(output),
                "--robot.type=so100_follower",
                f"--robot.port={arm.bus.port}",
                "--robot.id=sim",
                f"--robot.calibration_dir={tmp_path}",
                f"--fps={FPS}",
                "--duration=2",
                "--device=cpu",
                "--play_sounds=false",
                "--return_to_initial_position=false",
                "--policy.limits.enabled=false",  # the arm does not start where the demonstrations are
                *([] if renamed is None else [renamed]),
            )
            if renamed is not None:
                assert not done.ok
                assert "not the same names" in done.output
                assert not arm.bus.goals
                continue
            assert done.ok, done.output[-3000:]
            for servo, (low, high) in enumerate(SPANS, start=1):
                assert low - 2 < np.median(degrees(arm, servo)) < high + 2, (output.name, servo)


def test_dimensions_in_another_unit(train: Callable[..., Path], tmp_path: Path) -> None:
    """By powers of two, which no number is rounded by: all weights are the same to the bit."""
    own = demonstrations(["moves", "still", "rare", "heavy", "ticks"])
    by = np.array([2.0**-10, 2.0**10, 2.0**-7, 2.0**3, 2.0**9])
    roots = own.write(tmp_path / "one"), own.scaled({STATE: by, ACTION: by}).write(tmp_path / "other")
    ends = [last_checkpoint(train(f"on_{root.name}", root, "--policy.type=lafp", *TINY)) for root in roots]
    policies = [LAFPPolicy.from_pretrained(end) for end in ends]
    for (name, one), (_, other) in zip(*(policy.named_parameters() for policy in policies), strict=True):
        assert torch.equal(one, other), name
    factor = torch.from_numpy(by).float()
    one, other = (commands(policy, frames_of(root)) for policy, root in zip(policies, roots, strict=True))
    assert torch.equal(one * factor, other)
    for one, other in zip(*(policy._guard.bounds for policy in policies), strict=True):
        assert torch.equal(one * factor, other)


def test_a_camera_by_another_name(train: Callable[..., Path], tmp_path: Path) -> None:
    """Nothing else is seen, and the chunks of most frames reach beyond the episode."""
    draw = np.random.default_rng(0)
    camera, renamed = "observation.images.top", "observation.images.cam0"
    columns = {camera: [draw.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for n in (17, 18)]}
    columns[ACTION] = [draw.normal(size=(len(x), 2)) for x in columns[camera]]
    own = Data(columns)
    other = replace(own, columns={renamed: columns[camera], ACTION: columns[ACTION]}, order=[ACTION, renamed])
    first, second = own.write(tmp_path / "one"), other.write(tmp_path / "other")
    trained = goes_on(train("trained", first, "--policy.type=lafp", *TINY))
    back = f"--rename_map={json.dumps({renamed: camera})}"
    assert_same_weights(train("same", first, trained), train("renamed", second, trained, back))
