"""Small video files whose frames say which they are; demonstrations, and checkpoints that label them."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDataset
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_IMAGE, OBS_STATE
from numpy.typing import NDArray

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.simulators.two_way.demonstrator import write_demonstrations

from ..building import lafp
from ..conftest import TINY
from .labelling import FEATURES, NAME

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """``make_video(path, greys, fps=10, size=(32, 48), times=None)``: one frame a grey, (height, width) pixels.

    A grey may be an image of that size. ``times`` are the frames' seconds, for a rate that varies; ``pix_fmt`` and
    ``codec`` are FFmpeg's; ``pixel_aspect`` is what the codec says of its pixels, width / height.
    """

    def build(
        path: Path,
        greys: Sequence[int | NDArray[np.uint8]],
        fps: int = 10,
        size: tuple[int, int] = (32, 48),
        times: Sequence[float] | None = None,
        codec: str = "mpeg4",
        pix_fmt: str = "yuv420p",
        pixel_aspect: Fraction | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, fps)
            stream.height, stream.width = size
            stream.pix_fmt = pix_fmt
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.bit_rate = 4_000_000
            if pixel_aspect is not None:
                stream.codec_context.sample_aspect_ratio = pixel_aspect
            for i, grey in enumerate(greys):
                frame = av.VideoFrame.from_ndarray(np.full((*size, 3), grey, dtype=np.uint8), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                frame.pts = round(1000 * (i / fps if times is None else times[i]))
                frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return build


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five demonstrations from images and position, as PNG within the tables."""
    root = tmp_path_factory.mktemp("data") / "two_way"
    write_demonstrations(root, 5, obs_type="pixels_agent_pos", repo_id=NAME)
    return root


@pytest.fixture(scope="session")
def videos(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as encoded video."""
    root = tmp_path_factory.mktemp("data") / "video"
    source = LeRobotDataset(NAME, root=images)
    features = {key: dict(source.features[key]) for key in (OBS_IMAGE, OBS_STATE, ACTION)}
    features[OBS_IMAGE]["dtype"] = "video"
    dataset = LeRobotDataset.create(NAME, fps=source.fps, features=features, root=root)
    for episode in range(source.num_episodes):
        for i in range(*(source.meta.episodes[f"dataset_{end}_index"][episode] for end in ("from", "to"))):
            frame = source[i]
            image = (frame[OBS_IMAGE].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            dataset.add_frame({OBS_IMAGE: image, OBS_STATE: frame[OBS_STATE], ACTION: frame[ACTION], "task": "reach"})
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture
def make_checkpoint(
    make_batch: Callable[..., dict[str, Any]], train: Callable[..., list[float]], tmp_path: Path
) -> Callable[..., Path]:
    """``make_checkpoint(steps=2, stage="latent_action", **options)``: a trained stage 1, saved."""

    def build(steps: int = 2, stage: str = "latent_action", name: str = "checkpoint", **options: Any) -> Path:
        outputs = {ACTION: PolicyFeature(FeatureType.ACTION, (2,))}
        config = lafp(input_features=dict(FEATURES), output_features=outputs, stage=stage, **{**TINY, **options})
        config.facts.latent_features = sorted(FEATURES)  # as the first dataset sets it
        torch.manual_seed(1)
        policy = LAFPPolicy(config)
        train(policy, make_batch(config, size=8), steps=steps)
        policy.save_pretrained(tmp_path / name)
        for pipeline in make_pre_post_processors(config):
            pipeline.save_pretrained(tmp_path / name)
        return tmp_path / name

    return build
