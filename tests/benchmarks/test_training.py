"""One training of the ablation: its data, and that an interruption leaves no trace."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from ablation import training
from ablation.frames import Frames
from ablation.tasks import Budget
from ablation.training import batches, train
from lerobot.policies.factory import make_policy_config
from safetensors.torch import load_file
from torch import Tensor

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.options.constants import LATENT_ACTION

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
def frames(two_way: Path) -> Frames:
    return Frames("local/two_way", two_way)


@pytest.fixture
def run(frames: Frames, tmp_path: Path) -> Callable[..., Path]:
    """``run(name, type="lafp", **options)``: six steps of a tiny policy, into the folder that comes back."""

    def call(name: str, type: str = "lafp", seed: int = 3, **options: Any) -> Path:
        common = {"device": "cpu", "push_to_hub": False} if type != "lafp" else TINY
        config = (lafp if type == "lafp" else partial(make_policy_config, type))(**{**common, **options})
        seconds = train(config, frames, [0, 2, 5], Budget(6, 8), seed=seed, folder=tmp_path / name)
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


@pytest.mark.parametrize("hold", [False, True])
def test_stage_2_from_labels_is_stage_2_from_video(
    hold: bool, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"pretrained_path": run("first", stage="latent_action", hold_last_frame=hold) / "pretrained_model"}
    options |= {"stage": "latent_policy", "hold_last_frame": hold}
    forward, seen = LAFPPolicy.forward, []

    def counting(self: LAFPPolicy, batch: dict[str, Any], **kwargs: Any) -> Any:
        seen.append((LATENT_ACTION in batch, batch["observation.image"].shape[1]))
        return forward(self, batch, **kwargs)

    monkeypatch.setattr(LAFPPolicy, "forward", counting)
    labels = run("labels", **options)
    assert set(seen) == {(True, 2)}, "the history alone"
    monkeypatch.setattr(training, "latent_labels", lambda policy, frames: {})
    seen.clear()
    video = run("video", **options)
    assert set(seen) == {(False, 4)}
    assert weights(labels) == weights(video)
    assert (labels / "pretrained_model/config.json").read_text() == (video / "pretrained_model/config.json").read_text()


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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run("whole", **options)
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
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


def test_so_does_one_of_a_policy_of_lerobot(
    run: Callable[..., Path], die_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lerobot.policies.act.modeling_act import ACTPolicy

    whole = run("whole", "act", **SMALL_ACT)
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    die_at(4, ACTPolicy)
    with pytest.raises(InterruptionError):
        run("parts", "act", **SMALL_ACT)
    assert weights(run("parts", "act", **SMALL_ACT)) == weights(whole)


def test_the_cpu_time_before_an_interruption_counts(
    frames: Frames, die_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    die_at(5)
    with pytest.raises(InterruptionError):
        train(lafp(**TINY), frames, None, Budget(6, 8), 3, tmp_path)
    spent = tmp_path / "partial" / "seconds"
    before = float(spent.read_text())
    assert before > 0
    spent.write_text(str(before + 1000))
    assert train(lafp(**TINY), frames, None, Budget(6, 8), 3, tmp_path) > 1000 + before


def test_a_stage_one_without_label_weight_reads_no_label(run: Callable[..., Path]) -> None:
    """So the harness may share it between variants with different labels."""
    options = {"stage": "latent_action", "label_weight": 0.0}
    assert weights(run("all", labeled_episodes=None, **options)) == weights(
        run("two", labeled_episodes=[0, 1], **options)
    )


def test_bfloat16_changes_the_training_but_not_what_is_stored(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**TINY, "stage": "latent_action"}
    for name, wanted, there in (("full", False, True), ("half", True, True), ("none", True, False)):
        monkeypatch.setattr(training, "has_bf16", lambda device, there=there: there)
        train(lafp(**config), frames, None, Budget(6, 8, wanted), 3, tmp_path / name)
    assert weights(tmp_path / "full") != weights(tmp_path / "half")
    assert weights(tmp_path / "full") == weights(tmp_path / "none"), "a CPU without it trains in float32"
    state = load_file(tmp_path / "half" / "pretrained_model" / "model.safetensors")
    assert not any(x.dtype == torch.bfloat16 for x in state.values())


def test_a_loss_that_is_not_finite_stops_it(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: LAFPPolicy, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        return torch.tensor(float("nan")), {}

    monkeypatch.setattr(LAFPPolicy, "forward", broken)
    with pytest.raises(FloatingPointError, match=r"loss became nan at step 1 of .*broken"):
        run("broken")


# --- The order of the data -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [8, 37, 50])
def test_every_frame_comes_once_an_epoch(batch_size: int) -> None:
    usable = torch.arange(100, 137)
    drawn = torch.cat(list(islice(batches(usable, batch_size, seed=2), 37)))
    assert len(drawn) == 37 * batch_size
    epochs = drawn.reshape(batch_size, 37)
    assert all(torch.equal(epoch.sort().values, usable) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1]), "each in another order"


@pytest.mark.parametrize("skip", [0, 1, 4, 5, 37, 74, 100])
def test_skipping_continues_exactly(skip: int) -> None:
    usable = torch.arange(100, 137)
    whole = list(islice(batches(usable, 8, seed=2), skip + 12))
    rest = list(islice(batches(usable, 8, seed=2, skip=skip), 12))
    assert torch.equal(torch.stack(whole[skip:]), torch.stack(rest))


def test_the_order_depends_on_the_seed() -> None:
    usable = torch.arange(100, 137)
    orders = [next(batches(usable, 37, seed)) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
