"""``lafp view``: one episode as a policy sees it, as a recording, as a video and in lines of words."""

import os
from pathlib import Path

from ..data.policies import load_policy
from ..errors import UserError
from .view_episode import open_episode
from .view_measures import FEWEST_SAMPLES, measure, summarize
from .view_panels import Panels
from .view_policy import run_over
from .view_recording import require_rerun, write_recording
from .view_video import write_video


def view(
    checkpoint: str | Path,
    repo_id: str,
    root: str | Path | None = None,
    episode: int = 0,
    output_dir: Path = Path("outputs/view"),
    num_samples: int = 16,
    seed: int = 0,
    device: str | None = None,
) -> list[str]:
    """Show what ``checkpoint`` makes of an episode: write a recording for rerun, and a video.

    Args:
        checkpoint: What ``--policy.path`` takes.
        repo_id: The dataset's name.
        root: The dataset's folder; unset: LeRobot's cache, or the Hub.
        episode: Of the dataset.
        output_dir: Where the two files go.
        num_samples: Chunks that are sampled at each planning moment.
        seed: Of the policy's noise.
        device: Of the policy; unset: as it was trained.

    Returns:
        What was found, in lines of words, and where the files are.

    Raises:
        UserError: ``checkpoint`` cannot be read or is not trained, there is no such episode, ``output_dir`` cannot be
            written, there are too few samples, or rerun is not installed.
        ValueError: The dataset cannot be read, or does not fit the checkpoint.
    """
    if num_samples < FEWEST_SAMPLES:
        raise UserError(
            f"--samples must be at least {FEWEST_SAMPLES}, got {num_samples}: fewer fall into two clusters by chance."
        )
    require_rerun()
    _refuse_unwritable(output_dir)
    policy = load_policy(checkpoint, device)
    opened = open_episode(policy.config, policy.normalizer.vector_shapes, repo_id, root, episode)
    found = run_over(policy, opened, num_samples, seed)
    findings = measure(found)
    title = f"{checkpoint}: episode {episode} of {repo_id}"
    moments = f", {len(found.plans)} planning moments, {num_samples} samples at each" if findings.modes else ""
    summary = [
        f"Episode {episode} of {repo_id}: {len(opened)} frames, {opened.fps:g} per second{moments}.",
        *summarize(found, findings),
    ]
    output_dir.mkdir(parents=True, exist_ok=True)
    name = f"{repo_id.replace('/', '_')}_episode_{episode}"
    recording, video = (output_dir / f"{name}.{kind}" for kind in ("rrd", "mp4"))
    write_recording(recording, found, findings, title, summary)
    write_video(video, Panels(found, findings, title))
    return [*summary, f"Recording: {recording} (open it: rerun {recording})", f"Video: {video}"]


def _refuse_unwritable(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written to" if there.is_dir() else "is no folder"
        raise UserError(f"--output_dir={folder} cannot be written: {there} {why}. Choose another folder.")
