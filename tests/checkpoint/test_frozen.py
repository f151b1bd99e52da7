"""A checkpoint of every format there was is read, and acts as it did when it was made.

python -m tests.checkpoint.test_frozen      # freeze one of the present format, where ``CHECKPOINT_FORMAT`` is new
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION

from lerobot_lafp import LAFPPolicy
from lerobot_lafp.model.one_call import OneCall
from lerobot_lafp.options.constants import CHECKPOINT_FORMAT
from lerobot_lafp.training.distillation import distill

from ..building import lafp
from ..conftest import ACTION_DIM, ENV_STATE, FEATURES, STATE, TINY

FROZEN = Path(__file__).parent / "frozen"


def act(policy: LAFPPolicy, expected: dict[str, list]) -> torch.Tensor:
    observation = {key: torch.tensor(expected[key]) for key in (STATE, ENV_STATE)}
    policy.reset()
    return policy.predict_action_chunk(observation, noise=torch.tensor(expected["noise"]))


@pytest.mark.parametrize("number", range(CHECKPOINT_FORMAT + 1))
def test_it_acts_as_it_did(number: int) -> None:
    folder = FROZEN / f"format_{number}"
    assert (json.loads((folder / "config.json").read_text()).get("checkpoint_format") or 0) == number
    expected = json.loads((folder / "expected.json").read_text())
    actions = act(LAFPPolicy.from_pretrained(folder), expected)
    torch.testing.assert_close(actions, torch.tensor(expected[ACTION]), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "read",
    ["data.policies import load_policy as read", "data.validation.fit import read_checkpoint as read"],
    ids=["load_policy", "read_checkpoint"],
)
def test_a_process_that_has_imported_nothing_else_reads_it(read: str) -> None:
    """`lafp probe`, `label`, `view` and `check` begin with these, before anything of LeRobot's is extended."""
    program = f"import sys; from lerobot_lafp.{read}; print(read(sys.argv[1]).config.horizon)"
    folder = FROZEN / "format_1"
    run = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == str(json.loads((folder / "config.json").read_text())["horizon"])


def freeze(folder: Path) -> None:
    """A tiny policy that was trained for a few steps in a joint run, with what it does at three observations."""
    torch.manual_seed(0)
    config = lafp(**TINY, relative_actions=True, decoder_observes="tokens")
    config.input_features = {key: FEATURES[key] for key in (STATE, ENV_STATE)}
    config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))}
    policy = LAFPPolicy(config)
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    for _ in range(20):
        policy.train()
        frames = len(config.frame_deltas)
        batch = {key: torch.randn(8, frames, *FEATURES[key].shape) for key in (STATE, ENV_STATE)}
        batch |= {f"{key}_is_pad": torch.zeros(8, frames, dtype=torch.bool) for key in (STATE, ENV_STATE)}
        batch[ACTION] = torch.randn(8, config.horizon, ACTION_DIM)
        batch[f"{ACTION}_is_pad"] = torch.zeros(8, config.horizon, dtype=torch.bool)
        batch |= {"episode_index": torch.arange(8), "index": torch.arange(8), "task": [""] * 8}
        loss, _ = policy.forward(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    config.facts.one_call = True
    flow = policy.eval().stages.acting_policy
    policy.one_call = OneCall(flow)
    distill(flow, policy.one_call, torch.randn(64, config.n_obs_steps, 2, config.token_dim), 20)
    policy.save_pretrained(folder)
    expected = {key: torch.randn(3, *FEATURES[key].shape).tolist() for key in (STATE, ENV_STATE)}
    expected["noise"] = torch.randn(3, config.num_latents, config.latent_dim).tolist()
    expected[ACTION] = act(policy, expected).tolist()
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    freeze(FROZEN / f"format_{CHECKPOINT_FORMAT}")
