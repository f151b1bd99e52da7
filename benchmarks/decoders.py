"""How many labels each form of the decoder needs: what it makes, what it reads, how far its weights decay.

    python benchmarks/decoders.py --policy.path=checkpoints/pusht_keypoints --dataset.repo_id=lerobot/pusht_keypoints
    python benchmarks/decoders.py --policy.path=CHECKPOINT --dataset.repo_id=me/pick --dataset.root=FOLDER

Latents are the checkpoint's and stay as they are. A fifth of the episodes is held out; of the rest a draw labels some,
on whose frames all forms train alike: as many steps as ``lafp train`` takes without cameras, its batch and learning
rate. ``whole`` makes a chunk's actions at once, the others each latent's; ``state`` reads ``observation.state``, too;
the weights of ``decay`` decay; ``state_decay`` is what is shipped. Scored are the actions that the policy executes of a
chunk, on held-out frames: root mean square error in units of the actions' deviations, of each action and of their mean,
which is how far off a robot ends that is told speeds. One entry a dataset in ``results/decoders.json``.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from ablation.statistics import paired_difference, summarize
from lerobot.configs import PreTrainedConfig
from lerobot.utils.constants import OBS_STATE
from record import RESULTS, provenance, write_result
from torch import Tensor
from tqdm import tqdm

import lerobot_policy_lafp  # noqa: F401  (registers the policy)
from lerobot_lafp.diagnostics.collect import Collected, collect, dataset_batches
from lerobot_lafp.model.action_decoder import ActionDecoder, weight_decay
from lerobot_lafp.modeling_lafp import LAFPPolicy
from lerobot_lafp.options.constants import Stage
from lerobot_lafp.runs.budget import AMOUNTS, BATCH

LABELED, DRAWS, MOST_FRAMES = (5, 10, 20, 100), range(5), 20_000


@dataclass(frozen=True)
class Form:
    """One kind of decoder.

    Attributes:
        observes: Whether it reads ``observation.state`` beside latents.
        decays: Whether its weights decay, as those that are shipped do.
        whole: Whether it makes all actions of a chunk at once.
    """

    observes: bool = False
    decays: bool = False
    whole: bool = False


FORMS = {
    "whole": Form(whole=True),
    "per_latent": Form(),
    "state": Form(observes=True),
    "decay": Form(decays=True),
    "state_decay": Form(observes=True, decays=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy.path", dest="checkpoint", type=Path, required=True)
    parser.add_argument("--dataset.repo_id", dest="repo_id", required=True)
    parser.add_argument("--dataset.root", dest="root", type=Path, help="unset: the cache, or the Hub")
    given = parser.parse_args()
    config = PreTrainedConfig.from_pretrained(given.checkpoint)
    policy = LAFPPolicy.from_pretrained(given.checkpoint, config=config)
    batches = dataset_batches(policy.config, given.repo_id, given.root, MOST_FRAMES)
    found = measure(policy, collect(policy, batches, num_samples=1, taus=(0.0,)))
    file = RESULTS / "decoders.json"
    results = json.loads(file.read_text()) if file.is_file() else {"targets": [], "datasets": {}}
    results["datasets"][given.repo_id.split("/")[-1]] = {**found, "provenance": provenance()}
    print(json.dumps(found["summary"], indent=1))
    print(write_result("decoders", results))


def measure(policy: LAFPPolicy, data: Collected) -> dict[str, Any]:
    """Errors of every draw, and what they come to."""
    episodes = data.episodes.unique()
    order = episodes[torch.randperm(len(episodes), generator=torch.Generator().manual_seed(0))]
    held_out, pool = order[: round(len(order) / 5)], order[round(len(order) / 5) :]
    errors: dict[str, dict[str, list[list[float]]]] = {}
    for labeled in (count for count in LABELED if count <= len(pool)):
        for draw in tqdm(DRAWS, desc=f"{labeled} labelled", unit="draw"):
            chosen = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(draw))[:labeled]]
            for name, form in FORMS.items():
                decoder = train(policy, data, torch.isin(data.episodes, chosen), form, draw)
                of_form = errors.setdefault(str(labeled), {}).setdefault(name, [])
                of_form.append(score(policy, data, decoder, torch.isin(data.episodes, held_out)))
    return {"errors": errors, "held_out": sorted(held_out.tolist()), "summary": summary_of(errors)}


def summary_of(errors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over draws; ``less`` is the difference to the form ``per_latent``, below zero is better."""
    summary = {}
    for labeled, of_forms in errors.items():
        for place, measured in enumerate(("each action", "their mean")):
            values = {name: [[draw[place]] for draw in draws] for name, draws in of_forms.items()}
            summary[f"{labeled} labelled, {measured}"] = {
                name: summarize(each) | {"less": paired_difference(each, values["per_latent"])}
                for name, each in values.items()
            }
    return summary


def states(policy: LAFPPolicy, data: Collected) -> Tensor:
    """The normalised ``observation.state`` of every frame, (N, O)."""
    widths = [prod(shape) for shape in policy.config.vector_shapes.values()]
    place = [*policy.config.vector_shapes].index(OBS_STATE)
    return data.features.split(widths, dim=1)[place]


def train(policy: LAFPPolicy, data: Collected, rows: Tensor, form: Form, seed: int) -> ActionDecoder:
    """A decoder of one form, trained on the frames ``rows``."""
    torch.manual_seed(seed)
    config, seen = policy.config, states(policy, data) if form.observes else None
    shape = (config.num_latents, config.latent_dim, config.horizon, data.actions.shape[-1], config.decoder_dim)
    decoder = ActionDecoder(*shape, 0 if seen is None else seen.shape[1], data.relative, form.whole)
    steps = AMOUNTS[Stage.ACTION_DECODER].least
    decay = weight_decay(int(rows.sum())) if form.decays else 0.0
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=config.optimizer_lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    places = rows.nonzero().squeeze(1)
    decoder.train()
    for _ in range(steps):
        batch = places[torch.randint(len(places), (BATCH,))]
        near = None if seen is None else seen[batch]
        loss = decoder.loss(data.z_idm[batch], near, data.actions[batch], data.labeled[batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return decoder.eval()


@torch.no_grad()
def score(policy: LAFPPolicy, data: Collected, decoder: ActionDecoder, rows: Tensor) -> list[float]:
    """Error of the executed actions and of their sum, of frames all of whose chunk is known."""
    executed = policy.config.n_action_steps
    rows = rows & data.labeled.all(dim=1)
    seen = states(policy, data) if decoder.observation_dim else None
    actions = data.actions[rows][:, :executed]
    deviation = actions.flatten(0, 1).std(dim=0)
    off = (decoder(data.z_idm[rows], None if seen is None else seen[rows])[:, :executed] - actions) / deviation
    return [round(float(x.square().mean().sqrt()), 4) for x in (off, off.mean(dim=1))]


if __name__ == "__main__":
    main()
