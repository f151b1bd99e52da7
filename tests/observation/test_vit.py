"""A frozen ViT: read from disk, its patch tokens, and a policy around it."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, BertConfig

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.model.latent_action_model import AttendingIDM
from lerobot_lafp.observation.normalizer import ObservationNormalizer
from lerobot_lafp.observation.terms import pixels_key
from lerobot_lafp.observation.vit import FrozenViT, build_vit, load_vit

STATE, FRONT, WRIST = "observation.state", "observation.images.front", "observation.images.wrist"
REGISTERS = {"dinov2": 0, "dinov2_registers": 3, "dinov3": 3}


@pytest.fixture(params=REGISTERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def weights_of(folder: Path) -> Path:
    return folder / "model.safetensors"


def test_patch_tokens_are_the_models_own_averaged_over_cells(kind: str, make_vit: Callable[..., Path]) -> None:
    config, model = load_vit(str(make_vit(kind)))
    vit = FrozenViT(model, config, grid=2)
    images = torch.randn(3, 3, 16, 24)
    hidden = model(pixel_values=images).last_hidden_state[:, 1 + REGISTERS[kind] :]
    assert hidden.shape == (3, 4 * 6, 16)
    cells = hidden.unflatten(1, (2, 2, 2, 3)).mean(dim=(2, 4))  # rows in halves, columns in halves
    expected = F.layer_norm(cells.flatten(1, 2), [16])
    assert (vit.num_patches, vit.width) == (4, 16)
    torch.testing.assert_close(vit(images), expected)


def test_sides_that_are_no_whole_number_of_patches_are_resized(make_vit: Callable[..., Path]) -> None:
    config, model = load_vit(str(make_vit()))
    vit = FrozenViT(model, config, grid=2)
    image = torch.full((1, 3, 17, 23), 0.5)  # flat, so that resizing leaves nothing of itself
    torch.testing.assert_close(vit(image), vit(torch.full((1, 3, 16, 24), 0.5)))
    assert vit(torch.zeros(1, 3, 5, 3)).shape == (1, 4, 16)  # smaller than the grid's patches


def test_the_same_vit_is_built_from_its_configuration(kind: str, make_vit: Callable[..., Path]) -> None:
    config, model = load_vit(str(make_vit(kind)))
    again = build_vit(json.loads(json.dumps(config)))
    again.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 20, 20)
    assert torch.equal(FrozenViT(again, config, 2)(images), FrozenViT(model, config, 2)(images))


def test_missing_weights_are_never_replaced_by_random_ones(make_vit: Callable[..., Path]) -> None:
    folder = make_vit()
    state = load_file(weights_of(folder))
    state.pop("encoder.layer.1.attention.attention.query.weight")
    save_file(state, weights_of(folder), metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights.*layer\.1\.attention\.attention\.query.*would be random"):
        load_vit(str(folder))


def _cut_short(folder: Path) -> None:
    weights_of(folder).write_bytes(weights_of(folder).read_bytes()[:-100])


def _only_pickle(folder: Path) -> None:
    torch.save(load_file(weights_of(folder)), folder / "pytorch_model.bin")
    weights_of(folder).unlink()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize("spoil", [_cut_short, _only_pickle, _no_config, shutil.rmtree])
def test_a_folder_that_is_no_vit_is_named(spoil: Callable[[Path], Any], make_vit: Callable[..., Path]) -> None:
    folder = make_vit()
    spoil(folder)
    with pytest.raises(ValueError, match=rf"The ViT {folder} cannot be loaded.*config.json and model.safetensors"):
        load_vit(str(folder))


def test_without_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot be loaded.*Where there is no network, copy such a folder"):
        load_vit("someone/a-vit-nobody-has")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"lerobot_policy_lafp\[transformers\]"):
        load_vit("anything")


def test_a_model_without_patches_is_refused(tmp_path: Path) -> None:
    bert = AutoModel.from_config(
        BertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            vocab_size=11,
            max_position_embeddings=8,
        )
    )
    bert.save_pretrained(tmp_path)
    config, model = load_vit(str(tmp_path))
    with pytest.raises(ValueError, match="type bert has no square patches"):
        FrozenViT(model, config, grid=2)


# --- A policy around it ----------------------------------------------------------------------------------


@pytest.fixture
def options(make_vit: Callable[..., Path]) -> dict[str, Any]:
    return {
        "backbone__encoder": "vit",
        "backbone__weights": str(make_vit()),
        "backbone__grid": 2,
        "decoder_observes": "tokens",
    }


def test_one_call_encodes_all_frames_of_all_cameras_of_a_size(
    options: dict[str, Any], make_policy: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]]
) -> None:
    policy = make_policy(FRONT, WRIST, STATE, resize_shape=(16, 16), **options)
    calls: list[int] = []
    policy.normalizer.vit.model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    policy.forward(make_batch(policy.config, size=3))
    frames = len(policy.config.frame_deltas)
    assert calls == [3 * frames * 2]


def test_it_stays_as_it_is_through_all_stages_and_in_the_checkpoint(
    options: dict[str, Any],
    make_policy: Callable[..., LAFPPolicy],
    trained: Callable[..., LAFPPolicy],
    make_observation: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    before = make_policy(FRONT, STATE, **options).normalizer.vit.state_dict()
    policy = trained("action_decoder", FRONT, STATE, **options).eval()
    after = policy.normalizer.vit.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    policy.save_pretrained(tmp_path / "checkpoint")
    shutil.rmtree(options["backbone__weights"])  # the checkpoint is complete in itself
    again = LAFPPolicy.from_pretrained(tmp_path / "checkpoint").eval()
    seen, noise = make_observation(policy.config), torch.randn(3, 2, 4)
    acted = policy.predict_action_chunk(seen, noise=noise)
    assert torch.equal(again.predict_action_chunk(seen, noise=noise), acted)
    other = {**seen, FRONT: 1 - seen[FRONT]}
    assert not torch.equal(policy.predict_action_chunk(other, noise=noise), acted)


def test_its_features_are_what_the_forward_model_learns_to_predict(
    options: dict[str, Any],
    make_policy: Callable[..., LAFPPolicy],
    make_batch: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
) -> None:
    policy = make_policy(FRONT, stage="latent_action", motion__weight=0.0, label_weight=0.0, **options)
    assert policy.latent_action_model.patch_cameras == [FRONT]
    losses = train(policy, make_batch(policy.config, actions=False), steps=60, lr=3e-3)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("latent_tokens", [1, 2])
def test_queries_read_a_latents_tokens_from_both_frames(latent_tokens: int) -> None:
    torch.manual_seed(0)
    idm = AttendingIDM(num_tokens=6, token_dim=8, hidden=16, latent_dim=4, latent_tokens=latent_tokens)
    pairs = torch.randn(3, 2, 6, 8)
    z = idm(pairs)
    assert z.shape == (3, 2, 4)
    for token in (0, 5):  # one of the earlier frame, one of the later
        other = pairs.clone()
        other[:, 1, token] += 1
        changed = (idm(other) - z).abs().amax(dim=0) > 0
        assert changed[1].all()
        assert not changed[0].any()  # a latent sees its own two frames only


def test_several_latent_tokens_train_through_all_stages(
    options: dict[str, Any], trained: Callable[..., LAFPPolicy], make_observation: Callable[..., dict[str, Any]]
) -> None:
    several = {"latent_tokens": 2, "codebook__size": 4, "policy_network": "transformer"}
    policy = trained("action_decoder", FRONT, STATE, **options, **several).eval()
    assert policy.predict_action_chunk(make_observation(policy.config)).shape == (3, 4, 2)


def test_motion_is_told_from_small_images_kept_beside_the_patch_tokens(
    options: dict[str, Any], make_policy: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]]
) -> None:
    policy = make_policy(FRONT, stage="latent_action", motion__weight=1.0, **options)
    assert policy.latent_action_model.motion_head.cameras == [pixels_key(FRONT)]
    batch = make_batch(policy.config)
    plain = ObservationNormalizer(policy.config.camera_shapes, {}, imagenet=True)(batch)[FRONT]
    torch.testing.assert_close(policy.normalizer(batch)[pixels_key(FRONT)], plain)
    _, report = policy.forward(batch)
    assert report["motion_loss"] > 0
    later = make_policy(FRONT, stage="latent_policy", motion__weight=1.0, **options)
    assert pixels_key(FRONT) not in later.normalizer(batch)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone__weights": None}, "`backbone.encoder=vit` is a frozen ViT: say which"),
        ({"latent_tokens": 3}, r"`latent_tokens` \(3\) must divide `latent_dim` \(4\)"),
        ({"random_shift": 2}, "`random_shift` shifts images, and with backbone.encoder=vit the policy sees features"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    changed: dict[str, Any], message: str, make_config: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(FRONT, **{"backbone__encoder": "vit", "backbone__weights": "somewhere", **changed})


def test_another_grid_does_not_fit_a_trained_stage(
    options: dict[str, Any], trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    policy = trained("latent_action", FRONT, **options)
    with pytest.raises(ValueError, match=r"`backbone\.grid` is 3 here"):
        next_stage(policy, "latent_policy", backbone__grid=3)


def patch_features(policy: LAFPPolicy, batch: dict[str, Any]) -> Tensor:
    return policy.normalizer(batch)[FRONT]


def test_the_vit_sees_uint8_and_float_alike(options: dict[str, Any], make_policy: Callable[..., LAFPPolicy]) -> None:
    policy = make_policy(FRONT, **options)
    image = torch.randint(0, 256, (2, 1, 3, 20, 24), dtype=torch.uint8)
    expected = patch_features(policy, {FRONT: image.float() / 255})
    torch.testing.assert_close(patch_features(policy, {FRONT: image}), expected)
