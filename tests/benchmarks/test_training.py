"""One training of the ablation, by ``lerobot-train`` itself: an interruption leaves no trace."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ablation import training
from ablation.data import Data, usable
from ablation.tasks import Budget
from ablation.training import train
from lerobot.datasets import EpisodeAwareSampler
from lerobot.policies.factory import make_policy_config
from safetensors.torch import load_file

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.frames.dataset import StoredDataset

from ..building import lafp
from ..conftest import TINY

pytestmark = pytest.mark.slow

SMALL_ACT = {
    "chunk_size": 4,
    "n_action_steps": 4,
    "dim_model": 16,
    "n_heads": 2,
    "dim_feedforward": 16,
    "n_encoder_layers": 1,
    "latent_dim": 4,
    "n_vae_encoder_layers": 1,
    "pretrained_backbone_weights": None,
}


class InterruptionError(Exception):
    """The process dies."""


def weights(folder: Path) -> dict[str, bytes]:
    state = load_file(folder / "pretrained_model" / "model.safetensors")
    return {name: x.numpy().tobytes() for name, x in state.items()}


@pytest.fixture(scope="module")
def data(two_way: Path) -> Data:
    return Data("local/two_way", two_way)


@pytest.fixture
def run(data: Data, tmp_path: Path) -> Callable[..., Path]:
    """``run(name, type="lafp", **options)``: six steps of a tiny policy, into the folder that comes back."""

    def call(name: str, type: str = "lafp", seed: int = 3, **options: Any) -> Path:
        common = {"device": "cpu", "push_to_hub": False} if type != "lafp" else TINY
        config = (lafp if type == "lafp" else partial(make_policy_config, type))(**{**common, **options})
        seconds = train(config, data, [0, 2, 5], Budget(6, 8), seed=seed, folder=tmp_path / name)
        assert seconds > 0
        return tmp_path / name

    return call


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``die_at(call, policy=LAFPPolicy)``: the ``call``-th forward pass from now on fails, and no later one."""

    def build(call: int, policy: Any = LAFPPolicy) -> None:
        forward, count = policy.forward, iter(range(1, 1000))

        def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
            if next(count) == call:
                raise InterruptionError
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(policy, "forward", failing)

    return build


@pytest.mark.parametrize(
    "options",
    [
        {"stage": "joint"},
        {"stage": "joint", "codebook__size": 4, "motion_weight": 0.1, "ema_decay": 0.0},
        {"stage": "joint", "latent_source": "actions"},
        {"stage": "latent_action", "hold_last_frame": True},
    ],
)
@pytest.mark.parametrize("call", [1, 5])
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    call: int,
    options: dict[str, Any],
    run: Callable[..., Path],
    die_at: Callable[..., None],
) -> None:
    whole = run("whole", **options)
    die_at(call)
    with pytest.raises(InterruptionError):
        run("parts", **options)
    assert not (whole.parent / "parts" / "pretrained_model").exists()
    parts = run("parts", **options)
    assert weights(parts) == weights(whole)
    for folder in (whole, parts):
        assert [path.name for path in folder.iterdir()] == ["pretrained_model"]
        assert LAFPPolicy.from_pretrained(folder / "pretrained_model").stage_steps.max() == 6
    assert weights(run("other", seed=4, **options)) != weights(whole)


def test_a_policy_of_lerobot_goes_on_where_it_stopped(
    run: Callable[..., Path], die_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To other weights: LeRobot draws a number whenever it starts to load, and this policy drops units at random."""
    from lerobot.policies.act.modeling_act import ACTPolicy

    die_at(4, ACTPolicy)
    with pytest.raises(InterruptionError):
        run("parts", "act", **SMALL_ACT)
    forward, calls = ACTPolicy.forward, []

    def counted(self: ACTPolicy, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(ACTPolicy, "forward", counted)
    assert weights(run("parts", "act", **SMALL_ACT))
    assert len(calls) == 3, "steps 4 to 6"


def test_the_cpu_time_before_an_interruption_counts(data: Data, die_at: Callable[..., None], tmp_path: Path) -> None:
    die_at(5)
    with pytest.raises(InterruptionError):
        train(lafp(**TINY), data, None, Budget(6, 8), 3, tmp_path)
    spent = tmp_path / "seconds"
    before = float(spent.read_text())
    assert before > 0
    spent.write_text(str(before + 1000))
    assert train(lafp(**TINY), data, None, Budget(6, 8), 3, tmp_path) > 1000 + before


def test_a_stage_one_without_label_weight_reads_no_label(run: Callable[..., Path]) -> None:
    """So the harness may share it between variants with different labels."""
    options = {"stage": "latent_action", "label_weight": 0.0}
    assert weights(run("all", labeled_episodes=None, **options)) == weights(
        run("two", labeled_episodes=[0, 1], **options)
    )


def test_bfloat16_changes_the_training_but_not_what_is_stored(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**TINY, "stage": "latent_action"}
    for name, wanted, there in (("full", False, True), ("half", True, True), ("none", True, False)):
        monkeypatch.setattr(training, "has_bf16", lambda device, there=there: there)
        train(lafp(**config), data, None, Budget(6, 8, wanted), 3, tmp_path / name)
    assert weights(tmp_path / "full") != weights(tmp_path / "half")
    assert weights(tmp_path / "full") == weights(tmp_path / "none"), "a CPU without it trains in float32"
    state = load_file(tmp_path / "half" / "pretrained_model" / "model.safetensors")
    assert not any(x.dtype == torch.bfloat16 for x in state.values())


def test_rivals_read_as_quickly(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison is one of policies, not of loaders."""
    asked: list[int] = []
    batch = StoredDataset.batch

    def counted(self: StoredDataset, rows: Any) -> dict[str, Any]:
        asked.append(len(rows))
        return batch(self, rows)

    monkeypatch.setattr(StoredDataset, "batch", counted)
    run("rival", "act", **SMALL_ACT)
    assert set(asked) == {8}
    assert len(asked) >= 6


@pytest.mark.parametrize("dropped", [0, 4])
def test_usable_frames_are_those_of_lerobots_sampler(dropped: int, data: Data) -> None:
    about = data.meta.episodes
    sampler = EpisodeAwareSampler(about["dataset_from_index"], about["dataset_to_index"], drop_n_last_frames=dropped)
    assert usable(data.opened(), dropped).tolist() == sampler.indices
