"""Two processes learn what one does from batches of twice the size: DDP, FSDP over gloo, as accelerate sets them up.

This is FSDP as LeRobot 0.6.1 uses it; for FSDP2, which later ones use, see `tests/test_next_lerobot.py`.
"""

import functools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from accelerate.utils.dataclasses import get_module_class_from_name
from torch import nn
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from torch.nn.parallel import DistributedDataParallel

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.model.distributed import bounds, moments, sum_of_all

from .. import next_lerobot

STATE, FRONT = "observation.state", "observation.images.front"
STEPS, SIZE = 4, 12
#: Behaviour cloning in place of the flow, whose noise would differ; every loss of the three stages is there.
OPTIONS: dict[str, dict[str, Any]] = {
    "joint": {"stage": "joint", "policy_head": "bc", "labeled_episodes": [1, 2, 7, 8, 9], "motion__weight": 0.3},
    "latent_action": {"stage": "latent_action", "labeled_episodes": [1, 2, 7, 8, 9]},
}


def half(batch: dict[str, Any], rank: int) -> dict[str, Any]:
    part = slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)
    return {key: None if x is None else x[part] for key, x in batch.items()}


def steps(policy: LAFPPolicy, forward: Callable[..., Any], batches: list[dict[str, Any]]) -> list[float]:
    """Training as lerobot-train does it; ``forward`` is the policy's, or that of DDP or FSDP around it."""
    policy.latent_policy.dropout.p = 0.0  # would differ, too
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


def replicated(policy: LAFPPolicy) -> nn.Module:
    return DistributedDataParallel(policy, find_unused_parameters=True)


def sharded(policy: LAFPPolicy) -> nn.Module:
    """What accelerate does of the classes that the policy names, but on the CPU, where it refuses to."""
    units = {get_module_class_from_name(policy, name) for name in policy._no_split_modules}
    wrap = functools.partial(transformer_auto_wrap_policy, transformer_layer_cls=units)
    return FullyShardedDataParallel(policy, auto_wrap_policy=wrap, use_orig_params=True, device_id=torch.device("cpu"))


def whole(wrapped: nn.Module) -> dict[str, torch.Tensor]:
    """The state of the policy itself; of shards as LeRobot gathers them, but copied, which it need not do on a GPU."""
    if not isinstance(wrapped, FullyShardedDataParallel):
        return wrapped.module.state_dict()
    with FullyShardedDataParallel.state_dict_type(wrapped, StateDictType.FULL_STATE_DICT, FullStateDictConfig()):
        return wrapped.state_dict()


WRAPS = (replicated,) if next_lerobot.IS_INSTALLED else (replicated, sharded)


def in_process(rank: int, folder: Path, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name in OPTIONS:
        given = torch.load(folder / f"{name}.pt", weights_only=False)
        batches = [half(batch, rank) for batch in given["batches"]]
        for wrap in WRAPS:
            policy = LAFPPolicy(given["config"])
            policy.load_state_dict(given["state"])
            wrapped = wrap(policy)
            losses = steps(policy, wrapped, batches)
            state = whole(wrapped)
            if wrap is sharded and rank == 0:
                policy.save_pretrained(folder / name, state_dict=state)
            torch.save({"losses": losses, "state": state}, folder / f"{name}-{wrap.__name__}-{rank}.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
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
        for how in (wrap.__name__ for wrap in WRAPS):
            first, second = (torch.load(tmp_path / f"{name}-{how}-{rank}.pt") for rank in range(2))
            losses = torch.tensor([first["losses"], second["losses"]]).mean(dim=0)
            torch.testing.assert_close(losses, expected[name], rtol=1e-4, atol=1e-5)
            assert first["state"].keys() == state.keys()
            for key, x in state.items():  # weights, moving averages, statistics, counts of steps
                assert torch.equal(first["state"][key], second["state"][key]), key
                torch.testing.assert_close(first["state"][key], x, rtol=1e-3, atol=1e-5, msg=f"{name} {how} {key}")
        if sharded in WRAPS:
            saved = LAFPPolicy.from_pretrained(tmp_path / name).state_dict()
            assert all(torch.equal(saved[key], x) for key, x in first["state"].items()), "of shards, and whole"


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
    assert names == ["LatentTransformer", "ObservationEncoder", "TransformerDecoderLayer"]
    assert make_policy(STATE)._no_split_modules == ["ObservationEncoder", "ResidualBlock", "ResidualMLP"]
