"""The whole way of an SO-100, on an emulated one: demonstrations, video, three stages, rollouts.

    python examples/so100_sim.py                          # two hours on two cores, most of it training
    python examples/so100_sim.py --smoke                  # a few minutes; the path is the same, the arm learns nothing

An arm reaches for a red ball, which is then put elsewhere, four times an episode, before two cameras. A hundred and
twenty episodes are filmed, of ten more the commands are known, too. LAFP learns latent actions and the policy from the
film and the decoder from the ten; the rival, the same flow directly on actions, has the ten alone. Both then drive the
arm through `lerobot-rollout`, every command over the servos' wire, and the arm itself says whether it reached its
target. The same command goes on where an interrupted one stopped.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.errors import UserError
from lerobot_lafp.runs.commands import run_command
from lerobot_lafp.runs.trainings import last_checkpoint, train
from lerobot_lafp.simulators.so100.arm import CALIBRATION, SimArm
from lerobot_lafp.simulators.so100.control import ControlServer, socket_of
from lerobot_lafp.simulators.so100.demonstrations import TASK, record_demonstrations

FPS, SIDE = 15, 32
#: What moves towards one camera, which hardly sees it, is seen by the other.
VIEWS = ("front", "side")
#: For a target, when recording.
SECONDS = 2.0
#: Seeds of the targets: of what is filmed, of what is labelled, of the rollouts.
FILMED, LABELED, ROLLOUTS = 1, 2, 100_000


@dataclass(frozen=True)
class Size:
    """How much is recorded, trained and tried."""

    videos: int = 120
    labeled: int = 10
    targets: int = 4
    rollouts: int = 50
    steps: tuple[int, int, int] = (2500, 6000, 1500)
    batch_size: int = 64
    workers: int = 2

    @property
    def training(self) -> list[str]:
        loading = [f"--batch_size={self.batch_size}", f"--num_workers={self.workers}"]
        return [*loading, "--env_eval_freq=0", "--policy.push_to_hub=false"]


SMOKE = Size(videos=3, labeled=2, targets=2, rollouts=2, steps=(2, 2, 2), batch_size=4, workers=0)

#: What a policy is, beside LAFP's defaults.
POLICY = [
    "--policy.type=lafp",
    "--policy.device=cpu",
    "--policy.horizon=8",
    "--policy.num_latents=2",
    "--policy.pixel_target_size=24",
    "--policy.random_shift=1",
    "--policy.hold_last_frame=true",
    "--policy.optimizer_lr=1e-3",
]
#: How it acts: it says where to go from where the arm is, and goes through with a chunk, as one picture does not tell
#: how fast the arm moves already.
ACTING = ["--policy.relative_actions=true", "--policy.n_action_steps=8"]


@contextmanager
def running_arm(output: Path, seed: int, log: Path | None = None) -> Iterator[Path]:
    """An emulated arm; yields its port."""
    port = output / "so100"
    with SimArm(port, CALIBRATION, seed, log) as arm, ControlServer(arm, socket_of(port)):
        yield port


def record(output: Path, size: Size) -> None:
    """Two datasets: demonstrations, and film, which loses its actions and states."""
    calibration = output / "sim.json"
    calibration.write_text(json.dumps(CALIBRATION, indent=4) + "\n")
    for name, episodes, seed in (("demonstrations", size.labeled, LABELED), ("play", size.videos, FILMED)):
        root = output / name
        if not (root / "meta" / "stats.json").is_file():
            with running_arm(output, seed) as port:
                record_demonstrations(
                    port, calibration, root, episodes, f"local/{name}", FPS, SECONDS, size.targets, SIDE, seed, VIEWS
                )
    film = output / "film"
    if not (film / "meta" / "stats.json").is_file():
        shutil.rmtree(film, ignore_errors=True)
        run_command(
            "lerobot-edit-dataset",
            [
                "--repo_id=local/play",
                f"--root={output / 'play'}",
                "--new_repo_id=local/film",
                f"--new_root={film}",
                "--operation.type=remove_feature",
                "--operation.feature_names=[action, observation.state]",
            ],
        )


def train_lafp(output: Path, size: Size) -> Path:
    """Stages 1 and 2 on film, stage 3 on the demonstrations; returns the checkpoint."""
    film = ["--dataset.repo_id=local/film", f"--dataset.root={output / 'film'}"]
    stage = [output / "lafp" / name for name in ("latent_action", "latent_policy", "action_decoder")]
    train(stage[0], [*POLICY, "--policy.stage=latent_action", *film, f"--steps={size.steps[0]}", *size.training])
    first = last_checkpoint(stage[0])
    labels = output / "film_labels"
    if lafp(["label", f"--policy.path={first}", *film, f"--output_dir={labels}"]):
        raise UserError("lafp label failed: its message is above.")
    labeled = ["--dataset.repo_id=local/film", f"--dataset.root={labels}"]
    second = [f"--policy.path={first}", "--policy.stage=latent_policy", *labeled, f"--steps={size.steps[1]}"]
    train(stage[1], [*second, *size.training])
    demonstrations = ["--dataset.repo_id=local/demonstrations", f"--dataset.root={output / 'demonstrations'}"]
    third = [f"--policy.path={last_checkpoint(stage[1])}", "--policy.stage=action_decoder", *demonstrations]
    third += [*ACTING, "--policy.decoder_observes=state"]
    train(stage[2], [*third, f"--steps={size.steps[2]}", *size.training])
    return last_checkpoint(stage[2])


def train_rival(output: Path, size: Size) -> Path:
    """The same flow directly on the actions of the demonstrations, for as many steps as LAFP's policy."""
    demonstrations = ["--dataset.repo_id=local/demonstrations", f"--dataset.root={output / 'demonstrations'}"]
    options = ["--policy.latent_source=actions", *ACTING, f"--steps={size.steps[1]}"]
    train(output / "few_labels", [*POLICY, *options, *demonstrations, *size.training])
    return last_checkpoint(output / "few_labels")


def roll_out(output: Path, name: str, checkpoint: Path, count: int) -> list[dict[str, Any]]:
    """``lerobot-rollout`` of ``count`` episodes; what the arm says of each."""
    log, done = output / f"rollouts_{name}.jsonl", output / f"rollouts_{name}.json"
    if done.is_file():
        return json.loads(done.read_text())
    log.unlink(missing_ok=True)
    number = sum(1 for _ in output.glob(f"recorded_{name}_*"))
    with running_arm(output, ROLLOUTS, log) as port:
        camera = f"type: sim_arm, port: {port}, width: {SIDE}, height: {SIDE}, fps: {FPS}"
        cameras = ", ".join(f"{view}: {{{camera}, view: {view}}}" for view in VIEWS)
        run_command(
            "lerobot-rollout",
            [
                f"--policy.path={checkpoint}",
                "--robot.type=so100_follower",
                f"--robot.port={port}",
                "--robot.id=sim",
                f"--robot.calibration_dir={output}",
                f"--robot.cameras={{{cameras}}}",
                "--device=cpu",
                f"--fps={FPS}",
                "--strategy.type=episodic",
                f"--dataset.repo_id=local/rollout_{name}",
                f"--dataset.root={output / f'recorded_{name}_{number}'}",
                f"--dataset.num_episodes={count}",
                "--dataset.episode_time_s=4",
                "--dataset.reset_time_s=1",
                f"--dataset.single_task={TASK}",
                f"--dataset.fps={FPS}",
                "--dataset.video=false",
                "--dataset.push_to_hub=false",
                "--play_sounds=false",
            ],
        )
    # An arm that never leaves home has no rollout there, and has not reached its target.
    rollouts = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    done.write_text(json.dumps(rollouts) + "\n")
    return rollouts


def run(output: Path, size: Size) -> dict[str, list[dict[str, Any]]]:
    """The whole way.

    Returns:
        Method -> its rollouts.
    """
    output = output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    record(output, size)
    methods = {"lafp": train_lafp, "few_labels": train_rival}
    return {name: roll_out(output, name, trained(output, size), size.rollouts) for name, trained in methods.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/so100_sim"))
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    size = SMOKE if given.smoke else Size()
    for name, rollouts in run(given.output_dir, size).items():
        reached = sum(rollout["reached"] for rollout in rollouts)
        print(f"{name:12} reached {reached} of {size.rollouts} targets")


if __name__ == "__main__":
    main()
