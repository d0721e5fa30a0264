"""One token for every row: grammar masks, the seeded draw, and the probabilities of a choice's options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from editscore_kernels.sample_tokens import NOT_A_NUMBER, OK, sample_tokens
from torch import Tensor

from editscore.engine.grammar import GrammarTokenizer
from editscore.engine.sequences import Row
from editscore.engine.transfer import Array, to_device


@dataclass(frozen=True)
class Draw:
    """The token drawn for a row with its log-probability under the model, or -1 and the reason why none could be."""

    token: int
    logprob: float = 0.0
    problem: str = ""
    is_poisoned: bool = False


@dataclass(frozen=True)
class PendingDraw:
    """Draws that were started on the device: `tensors` are what has to be read back for `Draw`s to come of them."""

    rows: Sequence[Row]
    choices: Sequence[tuple[int, Any]]
    tensors: tuple[Tensor, ...]

    def finish(self, token: Array, status: Array, logprob: Array, of_options: Array) -> list[Draw]:
        """The draws, from `tensors` read back; log-probabilities at a choice go into the row's answer."""
        if self.choices:
            raw = torch.from_numpy(of_options[[i for i, _ in self.choices]]).double()
            normalised = (raw - raw.logsumexp(1, keepdim=True)).tolist()
            for (i, choice), values in zip(self.choices, normalised, strict=True):
                self.rows[i].answer.record_choice(choice, tuple(values[: len(choice.options)]))
        drawn = zip(token.tolist(), logprob.tolist(), status.tolist(), strict=True)
        return [Draw(t, x) if s == OK else _failure(s) for t, x, s in drawn]


def start_draw(rows: Sequence[Row], logits: Tensor, tokenizer: GrammarTokenizer) -> PendingDraw:
    """Starts to draw the next token of every row from logits [R, V]; nothing waits for the device.

    A draw depends on the row's request, its pass and the number of tokens before it, on nothing else.
    """
    sampling = [row.job.request.sampling for row in rows]
    choices, option_ids = _options(rows)
    arrays = {
        "temperature": np.asarray([s.temperature for s in sampling], np.float64),
        "top_k": np.asarray([s.top_k for s in sampling], np.int64),
        "top_p": np.asarray([s.top_p for s in sampling], np.float64),
        "seed": np.asarray([row.job.request.seed for row in rows], np.int64),
        "request": np.asarray([row.key for row in rows], np.int64),
        "position": np.asarray([len(row.answer.tokens) for row in rows], np.int64),
        "mask": _masks(rows, tokenizer),
        "option_ids": option_ids,
    }
    given = {name: array for name, array in arrays.items() if array is not None}
    moved = dict(zip(given, to_device(list(given.values()), logits.device), strict=True))
    result = sample_tokens(logits, **moved)  # type: ignore[arg-type]
    return PendingDraw(rows, choices, (result.token, result.status, result.logprob_raw, result.option_logprob))


def signed(key: int) -> int:
    """A 64-bit hash as the int64 of the same bits."""
    return key - (1 << 64) if key >= 1 << 63 else key


def _failure(status: int) -> Draw:
    if status == NOT_A_NUMBER:
        return Draw(-1, problem="the model's logits are not finite", is_poisoned=True)
    return Draw(-1, problem="the model gives no probability to any token that the answer allows")


def _masks(rows: Sequence[Row], tokenizer: GrammarTokenizer) -> Array | None:
    masks = np.zeros((len(rows), tokenizer.num_words), np.int32)
    matchers: list[Any] = []
    is_masked = [row.answer.put_mask(i, masks, matchers) for i, row in enumerate(rows)]
    if not any(is_masked):
        return None
    tokenizer.fill(matchers, masks)
    if not all(is_masked):
        masks[~np.asarray(is_masked)] = -1
    return masks


def _options(rows: Sequence[Row]) -> tuple[list[tuple[int, Any]], Array | None]:
    found = [(i, choice) for i, choice in enumerate(row.answer.choice for row in rows) if choice is not None]
    if not found:
        return [], None
    width = max(len(ids) for _, (_, ids) in found)
    option_ids = np.full((len(rows), width), -1, np.int64)
    for i, (_, ids) in found:
        option_ids[i, : len(ids)] = ids
    return [(i, choice) for i, (choice, _) in found], option_ids
