"""The committed PushT configurations, a few steps of each stage, on the human demonstrations; and gym-pusht."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lerobot_lafp.runs.stages import train_stages

from .conftest import SHORT, Finished

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "lerobot"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the PushT demonstrations in {DATA}")
@pytest.mark.parametrize(
    ("task", "obs_type"), [("pusht_keypoints", "environment_state_agent_pos"), ("pusht", "pixels_agent_pos")]
)
def test_configurations_train_and_evaluate(
    task: str, obs_type: str, tmp_path: Path, run: Callable[..., Finished]
) -> None:
    checkpoint = train_stages(
        [
            str(ROOT / "configs" / task),
            f"--output_dir={tmp_path}",
            f"--dataset.repo_id=local/{task}",
            f"--dataset.root={DATA / task}",
            "--policy.device=cpu",
            *SHORT,
            "--dataset.episodes=[0,3,7]",
            "--policy.labeled_episodes=[3,7]",
            "--action_decoder.dataset.episodes=[3,7]",
        ]
    )
    done = run(
        "lerobot-eval",
        f"--policy.path={checkpoint}",
        "--env.type=pusht",
        f"--env.obs_type={obs_type}",
        "--env.episode_length=20",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'evaluation'}",
    )
    assert done.ok, done.output[-2000:]
    assert (tmp_path / "evaluation" / "eval_info.json").is_file()
