"""From a pass in flight to the record that is given back."""

from __future__ import annotations

from editscore.engine.sequences import Row
from editscore.types import Completion, FinishReason, Status


def completed(row: Row, reason: FinishReason, status: Status = Status.OK, message: str = "") -> Completion:
    """The completion of a pass that ended; an answer that met its limit is `Status.TRUNCATED`."""
    answer = row.answer
    if reason is FinishReason.LENGTH:
        status, message = Status.TRUNCATED, "the answer reached its limit of tokens"
    return Completion(
        pass_index=row.pass_index,
        text=answer.text(),
        finish_reason=reason,
        slots=answer.slots(),
        heads=row.job.heads,
        tokens=tuple(answer.tokens),
        logprobs=tuple(map(row.logprobs.get, range(len(answer.tokens)))) if row.job.request.logprobs else (),
        was_closed=answer.was_closed,
        status=status,
        message=message,
        num_prompt_tokens=row.job.leaf.num_prompt_tokens,
        num_sampled_tokens=row.num_sampled,
        num_forced_tokens=answer.num_forced,
    )


def failed(pass_index: int, status: Status, message: str) -> Completion:
    """The completion of a pass that could not be started."""
    return Completion(pass_index, "", FinishReason.FAILED, status=status, message=message)
