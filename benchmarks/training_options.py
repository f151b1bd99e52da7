"""Options that the trainings of a benchmark share."""


def training_options(device: str, batch_size: int, workers: int, half: bool = False) -> list[str]:
    """For `lafp train` and `lerobot-train`: on this device, to no Hub, evaluated by nothing but the benchmark.

    ``half``: in bfloat16 where that is exact enough.
    """
    return [
        f"--policy.device={device}",
        "--policy.push_to_hub=false",
        f"--batch_size={batch_size}",
        f"--num_workers={workers}",
        "--env_eval_freq=0",
        *(["--policy.use_amp=true"] if half else []),
    ]
