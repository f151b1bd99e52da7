"""Tasks in words: what a demonstration is of, as a vector for the policy.

By its words, hashed, which needs no download; or by a frozen text model, whose vectors of the tasks trained on become
part of the checkpoint, so that the text model itself is only needed for others.
"""

import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .pretrained import load_pretrained, load_tokenizer

logger = logging.getLogger(__name__)

#: Where an ``Observation`` keeps the task's vector.
TASK = "task"
#: Words and pairs of them are counted in so many cells; two that share a cell are told apart by their company.
WORD_CELLS = 256


class TaskEncoder(nn.Module):
    """Tasks in words -> (B, F). A task that was not trained on is warned of, once.

    Args:
        tasks: Those trained on.
        text_model: Folder or Hub repository of the text model; unset: by words.
        table: Vectors of ``tasks``, (N, F), by the text model; unset: by words.
    """

    table: Tensor | None

    def __init__(self, tasks: Sequence[str], text_model: str | None = None, table: Tensor | None = None) -> None:
        super().__init__()
        self.row = {task: i for i, task in enumerate(tasks)}
        self.text_model = text_model
        self.register_buffer("table", table)
        self._known: dict[str, Tensor] = {}  # what was worked out once, by task

    @property
    def width(self) -> int:
        """F."""
        return WORD_CELLS if self.table is None else int(self.table.shape[1])

    def forward(self, tasks: Sequence[str], like: Tensor) -> Tensor:
        """Vectors of ``tasks``, (B, F), of the type and on the device of ``like``."""
        return torch.stack([self._vector(task).to(like) for task in tasks])

    def _vector(self, task: str) -> Tensor:
        if self.table is not None and task in self.row:
            return self.table[self.row[task]]
        if task not in self._known:
            self._known[task] = count_words(task) if task in self.row else self._of_another(task)
        return self._known[task]

    def _of_another(self, task: str) -> Tensor:
        logger.warning(
            "The policy was not trained on the task %r, but on %s. It acts by what the words have in common.",
            task,
            _few(list(self.row)),
        )
        if self.table is None:
            return count_words(task)
        try:
            assert self.text_model is not None
            return encode_tasks(self.text_model, [task])[0]
        except (ValueError, ImportError) as error:
            logger.warning("%s Until then it acts as in the mean of the tasks it was trained on.", error)
            return self.table.mean(dim=0)


def _few(tasks: Sequence[str], count: int = 5) -> str:
    more = f" and {len(tasks) - count} more" if len(tasks) > count else ""
    return ", ".join(repr(task) for task in tasks[:count]) + more


def count_words(task: str) -> Tensor:
    """Words and pairs of neighbouring words of a task, counted by their hash, at unit length: (WORD_CELLS,)."""
    words = re.findall(r"\w+", task.lower())
    counts = torch.zeros(WORD_CELLS)
    for item in [*words, *map(" ".join, pairwise(words))]:
        counts[crc32(item.encode()) % WORD_CELLS] += 1
    return WORD_CELLS**0.5 * F.normalize(counts, dim=0)


def encode_tasks(source: str, tasks: Sequence[str]) -> Tensor:
    """Mean hidden state of each task's tokens by a text model, normalised, (N, F).

    Args:
        source: A folder that ``transformers`` saved, tokenizer included, or a repository of the Hub.
        tasks: In words.

    Raises:
        ImportError: ``transformers`` is not installed.
        ValueError: There is no such text model, it cannot be fetched, or its weights are not all there.
    """
    model: Any = load_pretrained(source, "text model", "language")[1]
    tokenizer = load_tokenizer(source, "language")
    reader = model.get_encoder() if model.config.is_encoder_decoder else model
    tokens = [tokenizer(task, truncation=True)["input_ids"] for task in tasks]
    # Without its files, transformers makes up a tokenizer that knows no word.
    known = [set(row) - {tokenizer.unk_token_id, *tokenizer.all_special_ids} for row in tokens]
    if any(tasks) and not any(known):
        raise ValueError(
            f"The tokenizer of the text model {source} knows no word of {_few(tasks)}. Check that the folder holds "
            "tokenizer.json or the vocabulary beside the model."
        )
    vectors = []
    for row in tqdm(tokens, desc="tasks", unit="task", disable=len(tasks) < 100):
        ids = torch.tensor([row or [tokenizer.pad_token_id or 0]])
        with torch.no_grad():
            hidden = reader(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        vectors.append(F.layer_norm(hidden[0].mean(dim=0), hidden.shape[-1:]))
    return torch.stack(vectors)
