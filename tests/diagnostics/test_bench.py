"""``lafp bench``: what is called how often, and what the times are told as; never how long anything takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.cli.main import main
from lerobot_lafp.diagnostics.bench import Bench, bench

from ..conftest import ENV_STATE, FRONT, STATE

Trained = Callable[..., LAFPPolicy]


@pytest.mark.parametrize(
    ("features", "options", "ways"),
    [
        ((STATE, ENV_STATE), {}, ["10 steps"]),
        ((FRONT, STATE), {"num_flow_steps": 3, "decoder_observes": "tokens"}, ["3 steps"]),
        ((STATE,), {"policy_head": "bc", "relative_actions": True}, ["one call"]),
        ((STATE,), {"latent_source": "actions", "one_call": True}, ["one call", "10 steps"]),
    ],
)
def test_every_way_to_a_chunk_and_every_command_is_timed(
    features: tuple[str, ...], options: dict[str, Any], ways: list[str], trained: Trained, tmp_path: Path
) -> None:
    policy = trained("joint", *features, **options)
    if policy.one_call is not None:
        policy.one_call.steps.fill_(1)
    policy.save_pretrained(tmp_path)
    found = bench(tmp_path, calls=10)
    assert [*found.chunks] == ways
    assert {len(times) for times in (*found.chunks.values(), *found.parts.values(), found.predicting)} == {10}
    assert len(found.waiting) == 10 * (policy.config.n_action_steps - 1)
    assert all(time > 0 for time in found.waiting)


def test_the_checkpoint_stays_as_it_was(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("joint", STATE).save_pretrained(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert main(["bench", str(tmp_path), "--calls=10"]) == 0
    assert "chunk    10 steps" in capsys.readouterr().out
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_cannot_act_is_refused(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained("latent_policy", STATE).save_pretrained(tmp_path)
    assert main(["bench", str(tmp_path)]) == 1
    assert "Missing: stage action_decoder" in capsys.readouterr().err


@pytest.mark.parametrize(("slow", "said"), [(20.0, "33 ms are there at 30 Hz: always enough"), (40.0, "not always")])
def test_a_robots_rate_is_held_against_the_slowest(slow: float, said: str) -> None:
    found = Bench({"one call": [2.0]}, {"encoder": [1.0]}, [0.5, 0.5], [2.0] * 50 + [slow] * 5, 30.0)
    assert said in found.lines()[-1]
    assert "command  0.5 ms (p99 0.5) from its frame on" in found.lines()
    assert torch.tensor([len(line) for line in found.lines()]).max() < 130
