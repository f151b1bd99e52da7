"""Two processes learn what one learns from batches of twice the size (DDP over gloo, as accelerate sets it up)."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.distributed import bounds, moments, sum_of_all

STATE, FRONT = "observation.state", "observation.images.front"
STEPS, SIZE = 4, 12
#: Behaviour cloning in place of the flow, whose noise would differ; every loss of the three stages is there.
OPTIONS: dict[str, dict[str, Any]] = {
    "joint": {"stage": "joint", "policy_head": "bc", "labeled_episodes": [1, 2, 7, 8, 9], "motion_weight": 0.3},
    "latent_action": {"stage": "latent_action", "labeled_episodes": [1, 2, 7, 8, 9]},
}


def half(batch: dict[str, Any], rank: int) -> dict[str, Any]:
    part = slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)
    return {key: None if x is None else x[part] for key, x in batch.items()}


def steps(policy: LAFPPolicy, forward: Callable[..., Any], batches: list[dict[str, Any]]) -> list[float]:
    """Training as lerobot-train does it; ``forward`` is the policy's, or that of DDP around it."""
    optimizer = torch.optim.SGD(policy.get_optim_params(), lr=0.05)
    losses = []
    for batch in batches:
        policy.train()
        loss, _ = forward(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
        losses.append(loss.item())
    return losses


def in_process(rank: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name in OPTIONS:
        given = torch.load(folder / f"{name}.pt", weights_only=False)
        policy = LAFPPolicy(given["config"])
        policy.load_state_dict(given["state"])
        wrapped = DistributedDataParallel(policy, find_unused_parameters=True)
        losses = steps(policy, wrapped.forward, [half(batch, rank) for batch in given["batches"]])
        torch.save({"losses": losses, "state": policy.state_dict()}, folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_learn_what_one_learns_from_both_halves(
    make_policy: Callable[..., LAFPPolicy], make_batch: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    expected, states = {}, {}
    for name, options in OPTIONS.items():
        policy = make_policy(STATE, FRONT, **options)
        batches = list(uneven_batches(policy, make_batch))
        given = {"config": policy.config, "state": policy.state_dict(), "batches": batches}
        torch.save(given, tmp_path / f"{name}.pt")
        expected[name] = torch.tensor(steps(policy, policy.forward, batches))
        states[name] = policy.state_dict()
    mp.spawn(in_process, args=(tmp_path, free_port()), nprocs=2)
    for name, state in states.items():
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2))
        losses = torch.tensor([first["losses"], second["losses"]]).mean(dim=0)
        torch.testing.assert_close(losses, expected[name], rtol=1e-4, atol=1e-5)
        for key, x in state.items():  # weights, moving averages, statistics, counts of steps
            assert torch.equal(first["state"][key], second["state"][key]), key
            torch.testing.assert_close(first["state"][key], x, rtol=1e-3, atol=1e-5, msg=f"{name} {key}")


def uneven_batches(policy: LAFPPolicy, make_batch: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Whose halves have unequal shares of valid latents and of labels: one batch has all in one half, one has none."""
    for seed in range(STEPS):
        episodes = {1: [1, 2, 8, *[0] * 9], 2: [0] * SIZE}.get(seed, list(range(SIZE)))
        batch = make_batch(policy.config, size=SIZE, seed=seed, episodes=episodes)
        for key in (STATE, FRONT):
            batch[f"{key}_is_pad"][:4, -1] = True
        yield {key: x for key, x in batch.items() if key != "task"}


def test_one_process_exchanges_nothing() -> None:
    rows = torch.randn(5, 3)
    count, mean, variance = moments(rows)
    assert count == 5
    assert torch.equal(mean, rows.mean(dim=0))
    assert torch.equal(variance, rows.var(dim=0, unbiased=False))
    low, high = bounds(rows)
    assert torch.equal(low, rows.amin(dim=0))
    assert torch.equal(high, rows.amax(dim=0))
    assert torch.equal(sum_of_all(rows), rows)


def test_fsdp_finds_the_blocks_it_is_to_shard(make_policy: Callable[..., LAFPPolicy]) -> None:
    names = make_policy(STATE, policy_network="transformer")._no_split_modules
    assert names == ["TransformerDecoderLayer"]
    assert make_policy(STATE)._no_split_modules == ["ResidualBlock"]
