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


@dataclass(frozen=True)
class Draw:
    """The token drawn for a row with its log-probability under the model, or -1 and the reason why none could be."""

    token: int
    logprob: float = 0.0
    problem: str = ""
    is_poisoned: bool = False


def draw(rows: Sequence[Row], logits: Tensor, tokenizer: GrammarTokenizer) -> list[Draw]:
    """Draws the next token of every row from logits [R, V]; log-probabilities at a choice go into the row's answer.

    A draw depends on the row's request, its pass and the number of tokens before it, on nothing else.
    """
    sampling = [row.job.request.sampling for row in rows]
    choices, option_ids = _options(rows)
    result = sample_tokens(
        logits,
        temperature=_tensor([s.temperature for s in sampling], torch.float64, logits),
        top_k=_tensor([s.top_k for s in sampling], torch.int64, logits),
        top_p=_tensor([s.top_p for s in sampling], torch.float64, logits),
        seed=_tensor([row.job.request.seed for row in rows], torch.int64, logits),
        request=_tensor([row.key for row in rows], torch.int64, logits),
        position=_tensor([len(row.answer.tokens) for row in rows], torch.int64, logits),
        mask=_masks(rows, tokenizer, logits),
        option_ids=None if option_ids is None else option_ids.to(logits.device),
    )
    if choices:
        raw = result.option_logprob[torch.tensor([i for i, _ in choices], device=logits.device)].double()
        normalised = (raw - raw.logsumexp(1, keepdim=True)).tolist()
        for (i, choice), values in zip(choices, normalised, strict=True):
            rows[i].answer.record_choice(choice, tuple(values[: len(choice.options)]))
    status = result.status.tolist()
    tokens = result.token.tolist()
    logprobs = result.logprob_raw.tolist()
    return [Draw(t, x) if s == OK else _failure(s) for t, x, s in zip(tokens, logprobs, status, strict=True)]


def signed(key: int) -> int:
    """A 64-bit hash as the int64 of the same bits."""
    return key - (1 << 64) if key >= 1 << 63 else key


def _failure(status: int) -> Draw:
    if status == NOT_A_NUMBER:
        return Draw(-1, problem="the model's logits are not finite", is_poisoned=True)
    return Draw(-1, problem="the model gives no probability to any token that the answer allows")


def _tensor(values: list[Any], dtype: torch.dtype, like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=dtype).to(like.device)


def _masks(rows: Sequence[Row], tokenizer: GrammarTokenizer, like: Tensor) -> Tensor | None:
    masks = np.zeros((len(rows), tokenizer.num_words), np.int32)
    matchers: list[Any] = []
    is_masked = [row.answer.put_mask(i, masks, matchers) for i, row in enumerate(rows)]
    if not any(is_masked):
        return None
    tokenizer.fill(matchers, masks)
    if not all(is_masked):
        masks[~np.asarray(is_masked)] = -1
    return torch.from_numpy(masks).to(like.device)


def _options(rows: Sequence[Row]) -> tuple[list[tuple[int, Any]], Tensor | None]:
    found = [(i, choice) for i, choice in enumerate(row.answer.choice for row in rows) if choice is not None]
    if not found:
        return [], None
    width = max(len(ids) for _, (_, ids) in found)
    option_ids = np.full((len(rows), width), -1, np.int64)
    for i, (_, ids) in found:
        option_ids[i, : len(ids)] = ids
    return [(i, choice) for i, (choice, _) in found], torch.from_numpy(option_ids)
