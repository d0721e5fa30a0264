"""Which waiting passes start now: policy in plain Python over counts, without tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A pass is let in when the pages for this many tokens are free. More are taken as it grows; if they run out, the youngest
# request gives its pages back and starts again later, with the same answer.
EXPECTED_TOKENS = 64


@dataclass(frozen=True)
class Candidate:
    """A request that waits: `prompt` names its prompt (equal prompts are computed once), `num_waiting` counts its passes.

    `prompt_pages` and `prompt_tokens` are 0 for a prompt that is already in the KV store.
    """

    prompt: int
    prompt_tokens: int
    prompt_pages: int
    num_waiting: int
    pages_per_pass: int


def admit(candidates: Sequence[Candidate], *, free_rows: int, free_pages: int, prefill_tokens: int) -> list[int]:
    """How many passes of each of the first candidates start now, in order of arrival.

    Stops at the first candidate that does not fit, so that nothing overtakes it for ever. The first prompt may exceed the budget
    of prefill tokens, since it would never fit otherwise.
    """
    started: list[int] = []
    resident: set[int] = set()
    num_tokens = 0
    for candidate in candidates:
        is_new = candidate.prompt not in resident and candidate.prompt_pages > 0
        if is_new and num_tokens and num_tokens + candidate.prompt_tokens > prefill_tokens:
            break
        pages = free_pages - (candidate.prompt_pages if is_new else 0)
        passes = min(candidate.num_waiting, free_rows, max(0, pages) // candidate.pages_per_pass)
        if passes <= 0:
            break
        started.append(passes)
        resident.add(candidate.prompt)
        num_tokens += candidate.prompt_tokens if is_new else 0
        free_rows -= passes
        free_pages = pages - passes * candidate.pages_per_pass
        if passes < candidate.num_waiting:
            break
    return started
