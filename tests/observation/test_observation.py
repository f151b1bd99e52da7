"""The door (shapes, sizes, constants) and the encoders."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from lerobot_lafp.observation.encoders import ObservationEncoder, ResNetEncoder, SmallConvEncoder
from lerobot_lafp.observation.normalizer import IMAGENET_MEAN, IMAGENET_STD, ObservationNormalizer
from lerobot_lafp.observation.terms import in_own_terms, select_frames, shift_at_random, shrink
from lerobot_lafp.options.features import camera_shape

STATE, FRONT, WRIST = "observation.state", "observation.images.front", "observation.images.wrist"


@pytest.fixture(scope="module")
def resnet_state() -> dict[str, Tensor]:
    """What torchvision's files hold: BatchNorm, a classifier, batch counters."""
    torch.manual_seed(3)
    return torchvision.models.resnet18().state_dict()


def test_uint8_and_float_with_and_without_time_are_the_same_image() -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 8, 10)}, {})
    image = torch.randint(0, 256, (2, 3, 8, 10), dtype=torch.uint8)
    expected = (image.float() / 255 - 0.5) / 0.5
    for x in (image, image.unsqueeze(1), image.float() / 255, (image.float() / 255).unsqueeze(1)):
        out = normalizer({FRONT: x})[FRONT]
        assert out.shape == (2, 1, 3, 8, 10)
        torch.testing.assert_close(out[:, 0], expected)


def test_images_span_minus_one_to_one() -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 1, 2)}, {})
    image = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 4, 3, 1, 2)
    out = normalizer({FRONT: image})[FRONT]
    assert out.shape == (1, 4, 3, 1, 2)
    assert torch.equal(out[0, 0, 0, 0], torch.tensor([-1.0, 1.0]))


def test_a_pretrained_backbone_gets_the_constants_of_imagenet() -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 1, 1)}, {}, imagenet=True)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    out = normalizer({FRONT: (mean + 2 * std).reshape(1, 3, 1, 1)})[FRONT]
    torch.testing.assert_close(out, torch.full_like(out, 2.0))


def test_image_constants_do_not_come_from_the_dataset() -> None:
    """Trap 7: image statistics change with the dataset, and a frozen network must see the same inputs for ever."""
    stats = {key: {"mean": torch.full((3, 1, 1), 0.9), "std": torch.full((3, 1, 1), 0.1)} for key in (FRONT,)}
    image = torch.rand(2, 3, 4, 4)
    with_stats = ObservationNormalizer({FRONT: (3, 4, 4)}, {}, stats)({FRONT: image})[FRONT]
    assert torch.equal(with_stats, ObservationNormalizer({FRONT: (3, 4, 4)}, {})({FRONT: image})[FRONT])


def test_states_are_normalised_by_the_dataset_and_flattened() -> None:
    shapes = {STATE: (2,), "observation.environment_state": (2, 3)}
    stats = {STATE: {"mean": torch.tensor([1.0, 2.0]), "std": torch.tensor([2.0, 0.5])}}
    normalizer = ObservationNormalizer({}, shapes, stats)
    keypoints = torch.randn(4, 2, 3)
    out = normalizer({STATE: torch.tensor([[3.0, 3.0]]).expand(4, 2), "observation.environment_state": keypoints})
    assert torch.equal(out[STATE], torch.tensor([1.0, 2.0]).expand(4, 1, 2))
    assert torch.equal(out["observation.environment_state"], keypoints.reshape(4, 1, 6))


def test_grey_images_become_three_channels() -> None:
    normalizer = ObservationNormalizer({WRIST: (1, 4, 4)}, {})
    assert normalizer.image_shapes == {WRIST: (3, 4, 4)}
    out = normalizer({WRIST: torch.rand(2, 5, 1, 4, 4)})[WRIST]
    assert out.shape == (2, 5, 3, 4, 4)
    assert torch.equal(out[:, :, 0], out[:, :, 2])


def test_images_are_resized_on_the_way_in() -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 30, 20)}, {}, resize_shape=(10, 12))
    assert normalizer.image_shapes == {FRONT: (3, 10, 12)}
    out = normalizer({FRONT: torch.full((2, 2, 3, 30, 20), 0.75)})[FRONT]
    assert out.shape == (2, 2, 3, 10, 12)
    torch.testing.assert_close(out, torch.full_like(out, 0.5))


def test_resized_images_may_have_any_size_of_one_aspect() -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 24, 32)}, {}, resize_shape=(12, 16))
    ramp = torch.linspace(0, 1, 64).expand(2, 3, 48, 64)
    torch.testing.assert_close(
        normalizer({FRONT: ramp})[FRONT], normalizer({FRONT: ramp[..., 1::2, ::2]})[FRONT], atol=0.05, rtol=0
    )
    for other in ((3, 32, 32), (3, 24, 34), (1, 24, 32)):
        with pytest.raises(ValueError, match=rf"`{FRONT}` has shape .*sizes of one aspect"):
            normalizer({FRONT: torch.zeros(2, *other)})


def test_a_missing_observation_is_named() -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 4, 4)}, {STATE: (2,)})
    batch = {STATE: torch.zeros(1, 2), "observation.images.side": torch.zeros(1, 3, 4, 4), "action": None}
    with pytest.raises(KeyError, match=r"observation\.images\.front.*missing.*observation\.images\.side.*rename_map"):
        normalizer(batch)


@pytest.mark.parametrize(
    ("key", "shape"),
    [(FRONT, (2, 3, 4, 5)), (FRONT, (2, 4, 4, 3)), (FRONT, (3, 4, 4)), (STATE, (2, 3)), (STATE, (2, 1, 1, 2))],
)
def test_a_wrong_size_names_the_field_and_the_mend(key: str, shape: tuple[int, ...]) -> None:
    normalizer = ObservationNormalizer({FRONT: (3, 4, 4)}, {STATE: (2,)})
    batch = {FRONT: torch.zeros(2, 3, 4, 4), STATE: torch.zeros(2, 2), key: torch.zeros(shape)}
    with pytest.raises(ValueError, match=rf"`{key}` has shape .*trained with .*(camera|train again)"):
        normalizer(batch)


def test_other_channel_counts_are_refused() -> None:
    normalizer = ObservationNormalizer({FRONT: (4, 4, 4)}, {})
    with pytest.raises(ValueError, match=rf"`{FRONT}` has 4 channels"):
        normalizer({FRONT: torch.zeros(1, 4, 4, 4)})


@pytest.mark.parametrize(
    ("cameras", "vectors"),
    [
        ({FRONT: (3, 12, 16)}, {}),
        ({FRONT: (3, 12, 16), WRIST: (3, 5, 5)}, {}),
        ({}, {STATE: 2}),
        ({FRONT: (3, 12, 16), WRIST: (3, 5, 5)}, {STATE: 2, "observation.environment_state": 6}),
    ],
)
def test_one_token_a_camera_and_state_in_the_order_of_keys(
    cameras: dict[str, tuple[int, int, int]], vectors: dict[str, int]
) -> None:
    encoder = ObservationEncoder(cameras, vectors, token_dim=8)
    shapes = {**cameras, **{key: (width,) for key, width in vectors.items()}}
    observation = {key: torch.randn(2, 3, *shape) for key, shape in shapes.items()}
    tokens = encoder(observation)
    assert tokens.shape == (2, 3, encoder.num_tokens, 8)
    assert encoder.num_tokens == len(shapes)
    for position, key in enumerate(encoder.keys):
        other = encoder({**observation, key: observation[key] + 1})
        moved = (other != tokens).any(dim=-1).any(dim=0).any(dim=0)
        assert moved.tolist() == [n == position for n in range(len(shapes))]


def test_every_frame_is_encoded_on_its_own() -> None:
    encoder = ObservationEncoder({FRONT: (3, 12, 16)}, {STATE: 2}, token_dim=8).train()
    observation = {FRONT: torch.randn(2, 3, 3, 12, 16), STATE: torch.randn(2, 3, 2)}
    tokens = encoder(observation)
    torch.testing.assert_close(tokens[:, [2, 0]], encoder(select_frames(observation, [2, 0])))


def test_auto_takes_the_small_encoder_up_to_128_pixels() -> None:
    sizes = {FRONT: (3, 128, 96), WRIST: (3, 129, 96)}
    encoders = list(ObservationEncoder(sizes, {}, token_dim=8).encoders.values())
    assert [type(e) for e in encoders] == [SmallConvEncoder, ResNetEncoder]
    forced = ObservationEncoder(sizes, {}, token_dim=8, vision_encoder="small_conv")
    assert all(isinstance(e, SmallConvEncoder) for e in forced.encoders.values())


def test_resnet_does_not_mix_the_frames_of_a_batch() -> None:
    encoder = ResNetEncoder(token_dim=8).train()
    images = torch.randn(3, 3, 40, 56)
    together = encoder(images)
    assert together.shape == (3, 8)
    torch.testing.assert_close(together, torch.cat([encoder(x) for x in images.split(1)]), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in encoder.modules())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.usefixtures("no_network")
def test_pretrained_weights_come_from_a_local_file(
    suffix: str, tmp_path: Path, resnet_state: dict[str, Tensor]
) -> None:
    path = tmp_path / f"backbone{suffix}"
    save_file(resnet_state, path) if suffix == ".safetensors" else torch.save(resnet_state, path)
    encoder = ResNetEncoder(8, str(path))
    assert torch.equal(encoder[0].weight, resnet_state["conv1.weight"])
    torch.manual_seed(3)
    reference = torchvision.models.resnet18().eval()
    features = torch.nn.Sequential(*list(reference.children())[:-2])
    x = torch.randn(1, 3, 40, 40)
    mine = torch.nn.Sequential(*list(encoder.train().children())[:8])
    torch.testing.assert_close(mine(x), features(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weights", ["ResNet18_Weights.NOPE", "no_such_weights", "missing/folder/resnet18.pth"])
@pytest.mark.usefixtures("no_network")
def test_a_wrong_weights_name_or_path_is_an_error_without_network(weights: str) -> None:
    with pytest.raises(ValueError, match=rf"backbone\.weights={weights}.*neither a file nor"):
        ResNetEncoder(8, weights)


def test_weights_that_cannot_be_downloaded_say_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(ValueError, match=r"could not be downloaded.*give the path of the file"):
        ResNetEncoder(8, "ResNet18_Weights.IMAGENET1K_V1")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1"])
def test_a_damaged_weights_file_is_an_error_in_words(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"backbone{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`backbone\.weights=\S+` cannot be read.*Download it again"):
        ResNetEncoder(8, str(path))


@pytest.mark.parametrize("damage", ["cut", "misshapen", "deeper"])
def test_weights_of_another_network_are_refused(damage: str, tmp_path: Path, resnet_state: dict[str, Tensor]) -> None:
    state = dict(resnet_state)
    if damage == "cut":
        del state["layer3.0.conv1.weight"]
    elif damage == "misshapen":
        state["layer3.0.conv1.weight"] = torch.zeros(1)
    else:
        state["layer3.2.conv1.weight"] = torch.zeros(256, 256, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"backbone\.weights=.*not a ResNet-18.*layer3"):
        ResNetEncoder(8, str(tmp_path / "other.pth"))


def test_shrink_averages_by_a_whole_factor() -> None:
    image = torch.arange(16.0).reshape(1, 1, 1, 4, 4)
    assert shrink(image, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert shrink(image, 4) is image


def test_shrink_of_an_uneven_size_averages_what_is_there() -> None:
    image = torch.arange(10.0).reshape(1, 5, 2).expand(2, 3, 1, 5, 2)  # factor 3: rows 0 to 2, and rows 3 to 4
    out = shrink(image, 2)
    assert out.shape == (2, 3, 1, 2, 1)
    assert out[0, 0].flatten().tolist() == [2.5, 7.5]


def test_random_shift_moves_every_frame_of_a_sample_alike_and_repeats_the_edge() -> None:
    torch.manual_seed(0)
    rows = torch.arange(12.0).reshape(12, 1).expand(12, 12)
    columns = torch.arange(12.0).expand(12, 12)
    images = torch.stack([rows, columns, rows]).expand(40, 2, 3, 12, 12)  # says of each pixel where it was
    shifted = shift_at_random(images, 3)

    assert shifted.shape == images.shape
    assert torch.equal(shifted[:, 0], shifted[:, 1])  # all frames of a sample alike
    down = shifted[:, 0, 0, 6, 0] - 6
    right = shifted[:, 0, 1, 0, 6] - 6
    assert set(down.tolist()) == set(right.tolist()) == {-3, -2, -1, 0, 1, 2, 3}
    assert not torch.equal(down, right)
    for sample, (d, r) in enumerate(zip(down.tolist(), right.tolist(), strict=True)):
        expected = images[sample, 0]
        at_rows = (torch.arange(12) + int(d)).clamp(0, 11)
        at_columns = (torch.arange(12) + int(r)).clamp(0, 11)
        assert torch.equal(shifted[sample, 0], expected[:, at_rows][:, :, at_columns])


# --- Types, axes and distances -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        (["height", "width", "channels"], (20, 24, 3)),
        (["height", "width", "channel"], (20, 24, 3)),
        (["h", "w", "c"], (20, 24, 3)),
        (["channels", "height", "width"], (3, 20, 24)),
        (["width", "height", "channels"], (24, 20, 3)),
        (["y", "x", "rgb"], (20, 24, 3)),
        (None, (20, 24, 3)),
        (None, (3, 20, 24)),
        ({"axes": ["height", "width"]}, (20, 24, 3)),
    ],
)
def test_a_camera_is_known_whatever_its_axes_are_called(names: Any, shape: tuple[int, ...]) -> None:
    assert camera_shape({"names": names, "shape": shape}) == (3, 20, 24)


@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_distances_count_by_their_own_statistics_in_any_unit(unit: float) -> None:
    stats = {"mean": [[[900.0 * unit]]], "std": [[[100.0 * unit]]], "min": [[[0.0]]], "max": [[[9000.0 * unit]]]}
    depth = ObservationNormalizer({FRONT: (1, 4, 4)}, {}, {FRONT: stats}, depth=[FRONT])
    frame = torch.full((1, 1, 4, 4), 1000.0 * unit)
    frame[..., 0, 0] = 8000.0 * unit
    seen = depth({FRONT: frame})[FRONT]
    assert seen.shape == (1, 1, 3, 4, 4)
    torch.testing.assert_close(seen[0, 0, :, 1:], torch.ones(3, 3, 4))
    assert float(seen.max()) == 5.0, "what was not measured does not drown the rest"


@pytest.mark.parametrize("kind", [torch.float32, torch.int32, torch.int16])
def test_distances_that_nobody_declared_are_refused(kind: torch.dtype) -> None:
    picture = ObservationNormalizer({FRONT: (1, 4, 4)}, {})
    with pytest.raises(ValueError, match=r"holds numbers up to 900.*is_depth_map"):
        picture({FRONT: torch.full((1, 1, 4, 4), 900).to(kind)})


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_a_state_may_be_of_any_type(kind: torch.dtype) -> None:
    normalizer = ObservationNormalizer({}, {STATE: (2,)}, {STATE: {"mean": [0.0, 0.0], "std": [1.0, 1.0]}})
    batch = {STATE: torch.tensor([[0, 1], [1, 0]]).to(kind)}
    own = in_own_terms(batch, {STATE: (2,)}, {})
    assert normalizer(own)[STATE].dtype == torch.float32
    assert normalizer(own)[STATE].flatten().tolist() == [0, 1, 1, 0]
    assert batch[STATE].dtype == kind, "left as it is"


@pytest.mark.parametrize(("shape", "expected"), [((4,), (4, 1, 1)), ((4, 1), (4, 1, 1)), ((4, 3), (4, 3, 1))])
def test_a_feature_of_one_number_gets_back_its_axis(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    normalizer = ObservationNormalizer({}, {STATE: (1,)})
    assert normalizer({STATE: torch.zeros(shape)})[STATE].shape == expected


def test_dimensions_come_in_the_policys_order() -> None:
    batch = {STATE: torch.tensor([[[1.0, 2.0, 3.0]]]), "task": ["x"]}
    own = in_own_terms(batch, {STATE: (3,)}, {STATE: [2, 0, 1]})
    assert own[STATE].tolist() == [[[3, 1, 2]]]
    assert own["task"] == ["x"]
