"""``lafp demo``: what LAFP is for, on a task with a known answer, from demonstrations to one table.

Every row is a real run: trained by ``lerobot-train`` and evaluated by ``lerobot-eval``. The same command goes on
where an interrupted one stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..simulators.two_way.demonstrator import write_demonstrations
from ..simulators.two_way.figures import draw_trajectories, write_side_by_side_video
from ..simulators.two_way.two_way import Episode, read_episodes
from .commands import evaluate
from .trainings import Training, carry_out, last_checkpoint, refuse_other_trainings

NUM_DEMONSTRATIONS = 300
NUM_LABELED = 10
EVALUATION_SEED = 100_000


@dataclass(frozen=True)
class Run:
    """One training of the demo.

    Attributes:
        name: Its folder within the demo's.
        config: Its configuration within FOLDER.
        start: The run whose checkpoint it starts from.
        options: Options beside the configuration.
    """

    name: str
    config: str
    start: str | None = None
    options: tuple[str, ...] = ()


RUNS = (
    Run("lafp/latent_action", "1_latent_action.yaml"),
    Run("lafp/latent_policy", "2_latent_policy.yaml", "lafp/latent_action"),
    Run("lafp/action_decoder", "3_action_decoder.yaml", "lafp/latent_policy"),
    Run("bc/latent_policy", "2_latent_policy.yaml", "lafp/latent_action", ("--policy.policy_head=bc",)),
    Run("bc/action_decoder", "3_action_decoder.yaml", "bc/latent_policy", ("--policy.decoder_input=samples",)),
    Run("direct/action_decoder", "3_action_decoder.yaml", "lafp/latent_policy", ("--policy.decoder_input=samples",)),
    Run("few_labels", "few_labels.yaml"),
)

#: Row of the table -> the run that acts.
METHODS = {
    "LAFP": "lafp/action_decoder",
    "BC (LAOM)": "bc/action_decoder",
    "LAFP, decoder on direct samples": "direct/action_decoder",
    "few labels only (flow on actions)": "few_labels",
}


def run_demo(folder: Path, output: Path, num_episodes: int = 100, smoke: bool = False) -> dict[str, list[Episode]]:
    """Write demonstrations, train and evaluate all methods, and report. What is done already is not done again.

    Args:
        folder: Configurations of the trainings, such as ``configs/two_way``.
        output: Where demonstrations, trainings and results go.
        num_episodes: Of each method's evaluation.
        smoke: Train for two steps on few demonstrations: the path is the same, the numbers mean nothing.

    Returns:
        Row of the table -> its episodes.

    Raises:
        UserError: The configurations are missing, there are no episodes, or a training or evaluation failed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Run this in the repository, or name its configs/two_way.")
    if num_episodes < 1:
        raise UserError(f"--episodes must be at least 1, got {num_episodes}.")
    few_steps = ("--steps=2", "--batch_size=8", "--num_workers=0") if smoke else ()
    write_demonstrations(output / "demonstrations", 12 if smoke else NUM_DEMONSTRATIONS, NUM_LABELED)
    refuse_other_trainings([_training(run, folder, output, few_steps) for run in RUNS])
    for number, run in enumerate(RUNS, start=1):
        print(f"\n=== training {number} of {len(RUNS)}: {run.name}", flush=True)
        carry_out(_training(run, folder, output, few_steps))
    episodes = {}
    for number, (method, name) in enumerate(METHODS.items(), start=1):
        print(f"\n=== evaluation {number} of {len(METHODS)}: {method}", flush=True)
        episodes[method] = _evaluate(output / name, num_episodes)
    report(output, episodes)
    return episodes


def _training(run: Run, folder: Path, output: Path, options: Sequence[str]) -> Training:
    """A run of the demo, from the checkpoint that there is by now of the run that it starts from."""
    config, dataset = f"--config_path={folder / run.config}", f"--dataset.root={output / 'demonstrations'}"
    start = None if run.start is None else output / run.start
    path = [] if start is None else [f"--policy.path={last_checkpoint(start)}"]
    return Training(output / run.name, [config, dataset, *path, *run.options, *options], start)


def _evaluate(run: Path, num_episodes: int) -> list[Episode]:
    """The episodes of one ``lerobot-eval`` of a run's checkpoint; read again if it was done before."""
    folder = run / "evaluation"
    log = folder / "episodes.jsonl"
    if not (folder / "eval_info.json").is_file() or len(read_episodes(log)) < num_episodes:
        log.unlink(missing_ok=True)
        environment = ["--env.type=lafp_two_way", f"--env.episode_log={log}"]
        evaluate(last_checkpoint(run), folder, num_episodes, EVALUATION_SEED, environment)
    return read_episodes(log)[:num_episodes]


def report(output: Path, episodes: dict[str, list[Episode]]) -> None:
    """Print the table; write it as JSON, with a figure and a video."""
    rows = {method: summarize(of_method) for method, of_method in episodes.items()}
    (output / "demo.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw_trajectories(episodes, output / "demo.png")
    write_side_by_side_video(episodes, output / "demo.mp4")
    print("\n" + table(rows))
    print(f"\nfigure: {output / 'demo.png'}\nvideo:  {output / 'demo.mp4'}\nnumbers: {output / 'demo.json'}")


def summarize(episodes: Sequence[Episode]) -> dict[str, float | int]:
    """Shares of the episodes: success, contact with the obstacle, and of those that passed it, the left side."""
    passed = [episode.mode for episode in episodes if episode.mode != "none"]
    return {
        "episodes": len(episodes),
        "success": sum(episode.is_success for episode in episodes) / len(episodes),
        "touched": sum(episode.touched for episode in episodes) / len(episodes),
        "passed_left": passed.count("left"),
        "passed_right": passed.count("right"),
    }


def table(rows: dict[str, dict[str, float | int]]) -> str:
    """The rows as a Markdown table."""
    width = max(len(method) for method in rows)
    lines = [
        f"| {'method':{width}} | success | touched the obstacle | passed left / right |",
        f"|{'-' * (width + 2)}|---------|----------------------|---------------------|",
    ]
    for method, row in rows.items():
        sides = f"{row['passed_left']} / {row['passed_right']}"
        lines.append(f"| {method:{width}} | {row['success']:7.0%} | {row['touched']:20.0%} | {sides:>19} |")
    return "\n".join(lines)
