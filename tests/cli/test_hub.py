"""Sharing through ``huggingface_hub``'s own client, against a Hub on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from lerobot.configs import PreTrainedConfig

from lerobot_lafp import LAFPPolicy, make_lafp_pre_post_processors
from lerobot_lafp.checkpoint.inspection import inspect_checkpoint
from lerobot_lafp.cli.main import main as lafp
from lerobot_lafp.errors import UserError
from lerobot_lafp.simulators.two_way import read_episodes

from ..conftest import STATE
from .conftest import SHORT, TINY
from .hub_server import TOKEN, Hub, serving

NAME = "me/lafp_pick"
#: Seconds that a client waits for an answer.
HANGS = 900


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def client(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """This process's client talks to ``hub``, knows its token and starts with an empty cache."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    for patience in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, patience, HANGS)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture
def policy(trained: Callable[..., LAFPPolicy]) -> LAFPPolicy:
    return trained("joint", STATE, repo_id=NAME, license="mit")


def push(policy: LAFPPolicy) -> None:
    """What lerobot-train does at its end, as far as it concerns the policy."""
    cfg = SimpleNamespace(
        dataset=SimpleNamespace(repo_id="me/pick"),
        to_dict=lambda: {"dataset": {"repo_id": "me/pick"}, "steps": 1, "batch_size": 4, "seed": 0},
        save_pretrained=lambda folder: (folder / "train_config.json").write_text("{}"),
    )
    policy.push_model_to_hub(cfg)
    for processor in make_lafp_pre_post_processors(policy.config):
        processor.push_to_hub(NAME)


def same(a: LAFPPolicy, b: LAFPPolicy) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


def test_what_is_pushed_is_what_is_pulled(client: Hub, policy: LAFPPolicy, capsys: pytest.CaptureFixture[str]) -> None:
    push(policy)
    files = client.repositories[NAME].commits[-1][1]
    assert {"README.md", "config.json", "model.safetensors", "policy_preprocessor.json"} <= set(files)
    assert json.loads(files["config.json"])["weights_digest"] in client.uploads  # the Hub's own name for the file
    assert "license: mit" in files["README.md"].decode()
    assert same(LAFPPolicy.from_pretrained(NAME), policy)
    assert lafp(["inspect", NAME]) == 0
    assert capsys.readouterr().out.endswith("sound\n")


def test_a_private_one_needs_the_token(client: Hub, policy: LAFPPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.config.private = True
    push(policy)
    assert client.repositories[NAME].private
    assert same(LAFPPolicy.from_pretrained(NAME, token=TOKEN), policy)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{constants.HF_HUB_CACHE}-2")
    for read in (  # the first as LeRobot's commands do
        PreTrainedConfig.from_pretrained,
        lambda name: LAFPPolicy.from_pretrained(name, config=policy.config),
        inspect_checkpoint,
    ):
        with pytest.raises((FileNotFoundError, UserError), match=f"{NAME}.* log in with `hf auth login`"):
            read(NAME)


def test_without_a_token_nothing_is_pushed(client: Hub, policy: LAFPPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(Exception, match="401"):
        push(policy)
    assert client.repositories == {}


@pytest.mark.usefixtures("client")
def test_what_is_not_there_is_named() -> None:
    for name in ("me/nothing", "a/b/c"):
        for read in (PreTrainedConfig.from_pretrained, LAFPPolicy.from_pretrained):
            with pytest.raises(FileNotFoundError, match=f"{name} is no folder here, and no.* Check the name"):
                read(name)


def test_a_hub_that_is_out_of_order(client: Hub, policy: LAFPPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []  # between one try of the client's and the next
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=waits.append))
    push(policy)
    client.fail = lambda method, path: 503
    for read in (PreTrainedConfig.from_pretrained, LAFPPolicy.from_pretrained):
        with pytest.raises(ConnectionError, match=f"{NAME} is not in the cache, and the Hub cannot be reached.*503"):
            read(NAME)
    client.fail = lambda method, path: None
    pulled = LAFPPolicy.from_pretrained(NAME)
    client.fail = lambda method, path: 503  # from now on the cache serves
    assert same(LAFPPolicy.from_pretrained(NAME), pulled)
    assert waits


def test_a_download_that_is_cut_off_goes_on(client: Hub, policy: LAFPPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    push(policy)
    client.cut = 1000
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 256)  # what came is written down that often
    assert same(LAFPPolicy.from_pretrained(NAME), policy)
    assert client.cut is None
    whole, rest = [begins for path, begins in client.ranges if path.endswith("model.safetensors")]
    assert whole == 0
    assert 0 < rest <= 1000, "what was there is not fetched again"


def test_what_is_in_the_cache_is_not_fetched_again(client: Hub, policy: LAFPPolicy) -> None:
    push(policy)
    first = LAFPPolicy.from_pretrained(NAME)
    fetched = len(client.ranges)
    assert fetched
    assert same(LAFPPolicy.from_pretrained(NAME), first)
    assert len(client.ranges) == fetched, "their ETags are known"


def test_a_revision_is_pinned(client: Hub, policy: LAFPPolicy) -> None:
    push(policy)
    before = LAFPPolicy.from_pretrained(NAME)
    HfApi().create_tag(NAME, tag="v1")
    policy.stage_steps += 1
    push(policy)
    assert same(LAFPPolicy.from_pretrained(NAME, revision="v1"), before)
    assert same(LAFPPolicy.from_pretrained(NAME), policy)
    for options in ({}, {"config": policy.config}):
        with pytest.raises(FileNotFoundError, match=f"{NAME} has no revision v2"):
            LAFPPolicy.from_pretrained(NAME, revision="v2", **options)
    # As LeRobot's commands do with --policy.pretrained_revision: the configuration is of the newest.
    newest = PreTrainedConfig.from_pretrained(NAME)
    assert same(LAFPPolicy.from_pretrained(NAME, revision="v1", config=newest), before)
    newest.decoder_dim += 1
    with pytest.raises(ValueError, match=r"`decoder_dim` is .* stage action_decoder cannot change it afterwards"):
        LAFPPolicy.from_pretrained(NAME, revision="v1", config=newest)


def test_offline_the_cache_serves(client: Hub, policy: LAFPPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    push(policy)
    LAFPPolicy.from_pretrained(NAME)
    asked = len(client.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(LAFPPolicy.from_pretrained(NAME), policy)
    assert same(LAFPPolicy.from_pretrained(NAME, local_files_only=True), policy)
    assert len(client.requests) == asked
    for read in (PreTrainedConfig.from_pretrained, lambda name: LAFPPolicy.from_pretrained(name, config=policy.config)):
        with pytest.raises(ConnectionError, match="me/never_seen is not in the cache"):
            read("me/never_seen")


#: One process: a training that pushes, an evaluation of what it left on disk, and one of what it pushed.
SCRIPT = """
import json, sys
from lerobot.scripts import lerobot_eval, lerobot_train
for main, *arguments in json.loads(sys.argv[1]):
    sys.argv = [main, *arguments]
    {"lerobot-train": lerobot_train, "lerobot-eval": lerobot_eval}[main].main()
"""


def test_lerobots_own_commands_push_and_pull(hub: Hub, two_way: Any, tmp_path: Path) -> None:
    train = ["--policy.type=lafp", *two_way.arguments, "--policy.labeled_episodes=[0,1]", *TINY, *SHORT]
    train += ["--policy.push_to_hub=true", f"--policy.repo_id={NAME}", f"--output_dir={tmp_path / 'run'}"]
    evaluate = ["--env.type=lafp_two_way", "--env.obs_type=pixels_agent_pos", "--eval.n_episodes=3"]
    evaluate += ["--eval.batch_size=3", "--eval.use_async_envs=false", "--seed=5"]
    commands = [["lerobot-train", *train]]
    for name, path in (("disk", tmp_path / "run/checkpoints/last/pretrained_model"), ("hub", NAME)):
        output = [f"--output_dir={tmp_path / name}", f"--env.episode_log={tmp_path / f'{name}.jsonl'}"]
        commands.append(["lerobot-eval", f"--policy.path={path}", *evaluate, *output])
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_ETAG_TIMEOUT": str(HANGS),
        "HF_HUB_DOWNLOAD_TIMEOUT": str(HANGS),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"lerobot-eval --policy.path={NAME}" in hub.repositories[NAME].commits[-1][1]["README.md"].decode()
    trails = [[episode.trail for episode in read_episodes(tmp_path / f"{name}.jsonl")] for name in ("disk", "hub")]
    assert len(trails[0]) == 3
    assert all(len(trail) > 3 for trail in trails[0])
    assert trails[0] == trails[1], "every position of every episode"
    assert list((tmp_path / "home").rglob("model.safetensors"))
