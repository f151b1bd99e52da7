"""Demonstrations on an arm, recorded by LeRobot's own loop: robot, teleoperator, dataset (`lerobot_record.py`)."""

from collections.abc import Sequence
from pathlib import Path

from lerobot.cameras import CameraConfig
from lerobot.datasets import LeRobotDataset, aggregate_pipeline_dataset_features, create_initial_features
from lerobot.processor import make_default_processors
from lerobot.robots.so_follower import SO100Follower, SO100FollowerConfig
from lerobot.scripts.lerobot_record import record_loop
from lerobot.utils.feature_utils import combine_feature_dicts
from tqdm import trange

from .config_camera import SimArmCameraConfig
from .config_teleoperator import SimArmTeleoperatorConfig
from .control import ControlClient
from .teleoperator import SimArmTeleoperator

TASK = "Reach the red target."


def record_demonstrations(
    port: Path,
    calibration: Path,
    root: Path,
    episodes: int,
    repo_id: str = "local/so100_sim",
    fps: int = 15,
    seconds: float = 2.4,
    targets: int = 1,
    side: int = 64,
    seed: int = 0,
    views: Sequence[str] = ("front",),
) -> None:
    """Record an emulated arm that brings its tip to one target after the other.

    What ``lerobot-record --teleop.type=sim_arm`` does, but every episode begins at home and with another target.

    Args:
        port: Of the arm, which ``lafp sim-arm`` runs at.
        calibration: Its calibration file.
        root: Folder of the dataset, which must not exist.
        episodes: How many.
        repo_id: The dataset's name.
        fps: Frames and commands a second.
        seconds: For a target; of that the teleoperator takes up to 1.6 to get there.
        targets: Of an episode; the next one is there when the time for one is over.
        side: Of the cameras' pictures, in pixels.
        seed: Of targets, and of the ways to them.
        views: Of the cameras, which are called like them.
    """
    cameras: dict[str, CameraConfig] = {
        view: SimArmCameraConfig(port=str(port), view=view, width=side, height=side, fps=fps) for view in views
    }
    robot = SO100Follower(
        SO100FollowerConfig(id=calibration.stem, port=str(port), calibration_dir=calibration.parent, cameras=cameras)
    )
    teleoperator = SimArmTeleoperator(SimArmTeleoperatorConfig(port=str(port), seed=seed))
    processors = make_default_processors()
    of_action = aggregate_pipeline_dataset_features(
        pipeline=processors[0],
        initial_features=create_initial_features(action=robot.action_features),
        use_videos=False,
    )
    of_observation = aggregate_pipeline_dataset_features(
        pipeline=processors[2],
        initial_features=create_initial_features(observation=robot.observation_features),
        use_videos=False,
    )
    features = combine_feature_dicts(of_action, of_observation)
    dataset = LeRobotDataset.create(repo_id, fps, root=root, robot_type=robot.name, features=features, use_videos=False)
    arm = ControlClient(port)
    teleoperator.connect()
    robot.connect()
    try:
        for episode in trange(episodes, desc="demonstrations", unit="episode"):
            arm.ask("reset", **({"seed": seed} if episode == 0 else {}))
            for target in range(targets):
                if target:
                    arm.ask("move_target")
                record_loop(
                    robot=robot,
                    events={"exit_early": False, "stop_recording": False, "rerecord_episode": False},
                    fps=fps,
                    teleop_action_processor=processors[0],
                    robot_action_processor=processors[1],
                    robot_observation_processor=processors[2],
                    dataset=dataset,
                    teleop=teleoperator,
                    control_time_s=seconds,
                    single_task=TASK,
                )
            dataset.save_episode()
    finally:
        robot.disconnect()
        teleoperator.disconnect()
        arm.close()
        dataset.finalize()
