"""What is measured of a policy beside its success."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from lerobot_lafp.diagnostics.collect import Collected, collect, probe_config
from lerobot_lafp.diagnostics.report import Diagnosis, diagnose

from .data import Data, as_loaded, column, usable
from .statistics import MODE_BINS, MODE_END

#: Frames at which latents are measured: half from anywhere, half from where episodes begin, since that is where
#: demonstrators choose and episodes are alike enough to be neighbours.
NUM_FRAMES = 1000
#: Frames that an episode's beginning has.
BEGINNING = 6


def measure(policy: Any, preprocessor: Any, data: Data, seed: int) -> dict[str, Any]:
    """What a result holds beside its evaluation: ``measures`` and, of a policy over latents, ``mode_histogram``.

    ``measures`` are CPU milliseconds of one chunk; of a policy over latents also what ``lafp probe`` says of it.
    ``decoder_input_distance`` and ``wrong_mode_rate`` are of the latents that the decoder was trained on, against those
    of the inverse model: the mean over tau where it is drawn. Modes are found by 2-means.
    """
    out: dict[str, float | None] = {"ms_per_chunk": milliseconds_per_chunk(policy, preprocessor, data)}
    if getattr(policy, "latent_action_model", None) is None:
        return {"measures": out}
    taus = _trained_taus(policy.config)
    collected = collect(policy, _batches(policy, preprocessor, data, seed), seed=seed, taus=taus or (1.0,))
    found = diagnose(collected)
    probe, structure, flow_time = (found.numbers[name] for name in ("linear_probe", "structure", "flow_time"))
    out["probe_r2"] = None if probe is None else probe["r2"]
    if structure is not None:
        out |= {name: structure[name] for name in ("energy_distance", "mode_coverage", "bimodal_neighbourhoods")}
    if policy.config.decoder_input == "idm":
        out |= {"decoder_input_distance": 0.0, "wrong_mode_rate": 0.0}
    elif taus and flow_time is not None:
        out["decoder_input_distance"] = statistics.mean(flow_time["distance_to_idm"])
        rates = [rate for rate in flow_time["wrong_mode_rate"] if rate is not None]
        out["wrong_mode_rate"] = statistics.mean(rates) if rates else None
    rounded = {name: None if x is None else round(x, 4) for name, x in out.items()}
    return {"measures": rounded, "mode_histogram": mode_histogram(found, collected)}


def mode_histogram(found: Diagnosis, collected: Collected) -> dict[str, list[float]] | None:
    """Where latents lie along the line through the two modes, at -1 and 1, of all bimodal neighbourhoods together.

    Returns:
        ``idm`` and ``policy``: the share of the inverse model's latents and of the policy's samples in each bin; what
        lies beyond the ends counts for the outermost. None where no neighbourhood is bimodal.
    """
    if found.structure is None or collected.samples is None or not bool(found.structure.bimodal.any()):
        return None
    at = found.neighbours[found.structure.bimodal]
    first, second = found.structure.centres[found.structure.bimodal].unbind(dim=1)
    middle, half = ((second + first) / 2).unsqueeze(1), ((second - first) / 2).unsqueeze(1)

    def shares(points: torch.Tensor) -> list[float]:
        place = ((points - middle) * half).sum(dim=-1) / half.square().sum(dim=-1)
        counts = torch.histc(place.clamp(-MODE_END, MODE_END), MODE_BINS, -MODE_END, MODE_END)
        return [round(share, 4) for share in (counts / counts.sum()).tolist()]

    return {
        "idm": shares(collected.z_idm[found.chunks].flatten(1)[at]),
        "policy": shares(collected.samples[found.chunks].flatten(2)[at].flatten(1, 2)),
    }


def _trained_taus(config: Any) -> tuple[float, ...]:
    """Flow times of the decoder's training inputs; none where it was not trained by interpolation."""
    if config.decoder_input != "interpolation" or config.policy_head != "flow":
        return ()
    low, high = config.interpolation_tau
    return (low,) if low == high else tuple(low + (high - low) * (i + 0.5) / 10 for i in range(10))


def _batches(policy: Any, preprocessor: Any, data: Data, seed: int) -> Iterator[dict[str, Any]]:
    wanted = probe_config(policy.config)
    dataset = data.opened(wanted)
    frames = usable(dataset, wanted.frame_offset)
    begins = frames[column(dataset, "frame_index", frames) < BEGINNING]
    generator = torch.Generator().manual_seed(seed)
    halves = [part[torch.randperm(len(part), generator=generator)[: NUM_FRAMES // 2]] for part in (begins, frames)]
    for index in torch.cat(halves).unique().split(100):
        yield preprocessor(dataset.batch(index.numpy()))


@torch.no_grad()
def milliseconds_per_chunk(policy: Any, preprocessor: Any, data: Data, calls: int = 60) -> float:
    """Median time of predicting one chunk of actions for one observation, in milliseconds: CPU time, on one thread.

    On a GPU it is the time that passes; the action is brought to the CPU.
    """
    clock = time.process_time if policy.config.device == "cpu" else time.perf_counter
    first = data.opened().batch(np.zeros(1, np.int64))
    batch = preprocessor({key: as_loaded(x) for key, x in first.items() if key.startswith("observation.")})
    times = []
    for _ in range(calls):
        policy.reset()
        start = clock()
        policy.select_action(dict(batch)).cpu()
        times.append(clock() - start)
    return round(1000 * statistics.median(times[calls // 6 :]), 3)
