"""Tasks in words: vectors of them, and a policy that does what it is told."""

import copy
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast, T5Config

from lerobot_lafp import LAFPConfig, LAFPPolicy
from lerobot_lafp.observation.language import WORD_CELLS, TaskEncoder, count_words, encode_tasks

STATE, FRONT = "observation.state", "observation.images.front"
LEFT, RIGHT, OTHER = "push the block left", "push the block right", "open the drawer"
WORDS = ["[UNK]", *sorted({*LEFT.split(), *RIGHT.split(), *OTHER.split()})]


@pytest.fixture
def text_model(tmp_path: Path) -> Callable[..., Path]:
    """``text_model(kind)``: a tiny random text model with its tokenizer, saved as ``transformers`` saves them."""
    kinds = {
        "bert": BertConfig(
            vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
        ),
        "t5": T5Config(vocab_size=len(WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2),
    }

    def save(kind: str = "bert") -> Path:
        torch.manual_seed(4)
        AutoModel.from_config(kinds[kind]).save_pretrained(tmp_path / kind)
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return save


def meta_of(make_meta: Callable[..., SimpleNamespace], *tasks: str) -> SimpleNamespace:
    meta = make_meta([9, 9])
    meta.tasks = pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks, name="task"))
    return meta


def test_words_are_counted_alike_wherever_they_run_and_order_tells() -> None:
    vector = count_words(LEFT)
    assert vector.shape == (WORD_CELLS,)
    torch.testing.assert_close(vector.norm(), torch.tensor(WORD_CELLS**0.5))
    assert torch.equal(count_words("Push the BLOCK, left!"), vector)
    assert not torch.equal(count_words("left the block push"), vector)
    # By crc32, which is the same in every process: Python's own hash is not.
    assert vector.nonzero().flatten().tolist() == [13, 34, 50, 92, 100, 104, 230]
    assert not count_words("").any()


def test_an_unknown_task_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    encoder = TaskEncoder([LEFT, RIGHT])
    like = torch.zeros(())
    encoder([LEFT, RIGHT], like)
    assert not caplog.records
    first = encoder([OTHER, LEFT], like)
    encoder([OTHER], like)
    assert len(caplog.records) == 1
    assert "not trained on the task 'open the drawer', but on 'push the block left'" in caplog.text
    assert torch.equal(first[0], count_words(OTHER))


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_text_model_tells_tasks_apart(kind: str, text_model: Callable[..., Path]) -> None:
    vectors = encode_tasks(str(text_model(kind)), [LEFT, RIGHT, LEFT, ""])
    assert vectors.shape == (4, 8)
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.allclose(vectors[0], vectors[1])
    torch.testing.assert_close(vectors.mean(dim=1), torch.zeros(4), atol=1e-5, rtol=0)


def test_a_text_model_without_tokenizer_is_named(text_model: Callable[..., Path]) -> None:
    folder = text_model()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        ValueError, match=rf"tokenizer of the text model {folder} knows no word of 'push the block left'"
    ):
        encode_tasks(str(folder), [LEFT])


def test_a_damaged_tokenizer_is_named(text_model: Callable[..., Path]) -> None:
    folder = text_model()
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=rf"{folder} has no tokenizer that can be read"):
        encode_tasks(str(folder), [LEFT])


# --- The policy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "tasks", "settled"),
    [
        ({}, [LEFT], "none"),
        ({}, [LEFT, RIGHT], "words"),
        ({"language": "words"}, [LEFT], "words"),
        ({"language": "none"}, [LEFT, RIGHT], "none"),
        ({"stage": "latent_policy"}, [LEFT, RIGHT], "words"),
        ({"stage": "latent_action"}, [LEFT, RIGHT], None),
        ({"stage": "action_decoder"}, [LEFT, RIGHT], "none"),
    ],
)
def test_what_reads_the_task_is_settled_by_the_dataset(
    options: dict[str, Any],
    tasks: list[str],
    settled: str | None,
    make_config: Callable[..., LAFPConfig],
    make_meta: Callable[..., SimpleNamespace],
) -> None:
    config = make_config(STATE, **options)
    policy = LAFPPolicy(config, dataset_meta=meta_of(make_meta, *tasks))
    assert config.task_encoder == settled
    assert config.language == options.get("language", "auto"), "what was asked for stays"
    assert config.facts.tasks == (tasks if settled == "words" else None)
    assert (policy.task_encoder is not None) == (settled == "words")


def teach(policy: LAFPPolicy, batch: dict[str, Any], train: Callable[..., list[float]]) -> None:
    """Left is -1, right is 1, and nothing but the words tells which."""
    count = len(batch[STATE])
    sides = torch.tensor([-1.0, 1.0]).repeat(count // 2)
    batch[STATE] = torch.zeros_like(batch[STATE])
    batch["action"] = sides.reshape(-1, 1, 1).expand_as(batch["action"]).clone()
    batch["task"] = [LEFT, RIGHT] * (count // 2)
    train(policy, batch, steps=150, lr=5e-3)


def side(policy: LAFPPolicy, observation: dict[str, Any], task: Any) -> float:
    torch.manual_seed(0)
    return float(policy.predict_action_chunk({**observation, "task": task}).mean())


@pytest.mark.parametrize("kind", ["words", "bert"])
def test_the_policy_does_what_it_is_told(
    kind: str,
    text_model: Callable[..., Path],
    make_config: Callable[..., LAFPConfig],
    make_meta: Callable[..., SimpleNamespace],
    make_batch: Callable[..., dict[str, Any]],
    make_observation: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {} if kind == "words" else {"language": str(text_model(kind))}
    config = make_config(STATE, latent_source="actions", policy_dim=32, **options)
    policy = LAFPPolicy(config, dataset_meta=meta_of(make_meta, LEFT, RIGHT))
    teach(policy, make_batch(config, size=32), train)
    policy.eval()
    observation = make_observation(config)
    observation[STATE] = torch.zeros_like(observation[STATE])
    assert side(policy, observation, [LEFT] * 3) < -0.5
    assert side(policy, observation, RIGHT) > 0.5  # one for all
    # The checkpoint is complete without the text model, which other tasks alone need.
    policy.save_pretrained(tmp_path / "checkpoint")
    if kind != "words":
        shutil.rmtree(options["language"])
    again = LAFPPolicy.from_pretrained(tmp_path / "checkpoint").eval()
    assert side(again, observation, [LEFT] * 3) == side(policy, observation, [LEFT] * 3)
    with caplog.at_level(logging.WARNING):
        side(again, observation, OTHER)
        side(again, observation, None)
    assert "not trained on the task 'open the drawer'" in caplog.text
    assert ("cannot be loaded" in caplog.text) == (kind != "words")


def test_select_action_passes_the_task_on(
    make_config: Callable[..., LAFPConfig],
    make_meta: Callable[..., SimpleNamespace],
    make_batch: Callable[..., dict[str, Any]],
    make_observation: Callable[..., dict[str, Any]],
    train: Callable[..., list[float]],
) -> None:
    config = make_config(STATE, decoder_observes="tokens")
    policy = LAFPPolicy(config, dataset_meta=meta_of(make_meta, LEFT, RIGHT))
    train(policy, make_batch(config))
    policy.eval()
    noise, acted = torch.randn(3, 2, 4), {}
    for task in (LEFT, RIGHT):
        policy.reset()
        acted[task] = policy.select_action({**make_observation(config), "task": [task] * 3}, noise=noise)
    assert not torch.equal(acted[LEFT], acted[RIGHT])


def test_tasks_that_a_later_run_adds_stand_behind_the_others(
    text_model: Callable[..., Path],
    trained: Callable[..., LAFPPolicy],
    make_meta: Callable[..., SimpleNamespace],
    tmp_path: Path,
) -> None:
    options = {"language": str(text_model()), "tasks": [LEFT]}
    policy = trained("latent_policy", STATE, **options)
    policy.save_pretrained(tmp_path / "checkpoint")
    expected = encode_tasks(options["language"], [LEFT, RIGHT])
    assert torch.equal(table(policy), expected[:1])
    config = LAFPConfig.from_pretrained(tmp_path / "checkpoint")
    more = LAFPPolicy.from_pretrained(
        tmp_path / "checkpoint", config=config, dataset_meta=meta_of(make_meta, RIGHT, LEFT)
    )
    assert more.config.facts.tasks == [LEFT, RIGHT]
    assert torch.equal(table(more), expected)


def table(policy: LAFPPolicy) -> Tensor:
    assert policy.task_encoder is not None
    assert policy.task_encoder.table is not None
    return policy.task_encoder.table


def test_latents_and_their_labels_do_not_depend_on_the_task(
    trained: Callable[..., LAFPPolicy], make_meta: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    from lerobot_lafp.checkpoint.fingerprints import latent_fingerprint

    policy = trained("latent_action", STATE)
    policy.save_pretrained(tmp_path / "checkpoint")
    config = LAFPConfig.from_pretrained(tmp_path / "checkpoint", cli_overrides=["--stage=latent_policy"])
    later = LAFPPolicy.from_pretrained(
        tmp_path / "checkpoint", config=config, dataset_meta=meta_of(make_meta, LEFT, RIGHT)
    )
    assert later.task_encoder is not None
    assert latent_fingerprint(later.stages) == latent_fingerprint(policy.stages)


def test_a_trained_policy_keeps_its_way_of_reading(
    trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    policy = trained("latent_policy", STATE, language="words", tasks=[LEFT])
    with pytest.raises(ValueError, match=r"`language` is none here, but .* was trained with words"):
        next_stage(copy.copy(policy), "action_decoder", language="none")


def test_what_auto_settled_is_kept_and_may_be_named(
    trained: Callable[..., LAFPPolicy], next_stage: Callable[..., LAFPPolicy]
) -> None:
    policy = trained("latent_policy", STATE, task_encoder="words", tasks=[LEFT])
    assert policy.config.language == "auto"
    assert next_stage(policy, "action_decoder").config.task_encoder == "words"
    assert next_stage(policy, "action_decoder", language="words").config.task_encoder == "words"
    with pytest.raises(ValueError, match=r"`language` is none here, but .* was trained with words"):
        next_stage(policy, "action_decoder", language="none")
