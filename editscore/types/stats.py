"""What engines and scorers count while they run. Counters of several add up with `+`."""

from __future__ import annotations

from typing import Self

import msgspec


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the engine was made.

    `num_requests` were taken; one that is refused is not, and its passes count as failed. `num_finished_passes` ended with an answer, be
    it one that was cut, `num_failed_passes` without one; `num_cancelled_passes` were not wanted any more, whether they had started or not.
    `num_prompt_tokens` counts the prompts of all requests as if each was read alone, `num_prefilled_tokens` what the model read of them;
    the difference was shared. `num_images` counts the images of all requests, `num_encoded_images` the runs through the vision tower.
    `num_sampled_tokens` were drawn, `num_fed_tokens` went through the model after the prompts (forced ones included).
    `num_replayed_steps` of decoding were CUDA graphs; `graphs` is "yes" or why there are none. `attention` names the backend that ran,
    also for prompts unless `flash_prefill` is "yes"; otherwise that says why flash-attn did not read them. `seconds` is the time by phase
    (`editscore.engine.stats.PHASES`).
    """

    num_requests: int = 0
    num_finished_passes: int = 0
    num_failed_passes: int = 0
    num_cancelled_passes: int = 0
    num_prompt_tokens: int = 0
    num_prefilled_tokens: int = 0
    num_images: int = 0
    num_encoded_images: int = 0
    num_steps: int = 0
    num_sampled_tokens: int = 0
    num_fed_tokens: int = 0
    num_preempted_passes: int = 0
    num_replayed_steps: int = 0
    attention: str = ""
    graphs: str = ""
    flash_prefill: str = ""
    seconds: dict[str, float] = {}

    @property
    def num_reused_tokens(self) -> int:
        """Prompt tokens that were not computed, because another prompt had brought their keys and values."""
        return max(0, self.num_prompt_tokens - self.num_prefilled_tokens)  # a prompt that was dropped is computed again

    def __add__(self, other: EngineStats) -> Self:
        """Numbers are summed, seconds phase by phase; different names stand side by side."""
        mine, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        sums = {name: mine[name] + theirs[name] for name in mine if isinstance(mine[name], int) and name in theirs}
        phases = [*self.seconds, *(name for name in other.seconds if name not in self.seconds)]
        seconds = {name: self.seconds.get(name, 0.0) + other.seconds.get(name, 0.0) for name in phases}
        names = {name: _side_by_side(mine[name], theirs[name]) for name in ("attention", "graphs", "flash_prefill")}
        return msgspec.structs.replace(self, **sums, **names, seconds=seconds)


def _side_by_side(one: str, other: str) -> str:
    return ", ".join(dict.fromkeys(name for name in f"{one}, {other}".split(", ") if name))


class ScorerStats(EngineStats, frozen=True, kw_only=True):
    """What a scorer's engine did, and which passes it was spared.

    `num_cached_passes` came from the result cache. `num_joined_passes` were under way for another sample already: the same question.
    """

    num_cached_passes: int = 0
    num_joined_passes: int = 0

    @property
    def num_passes(self) -> int:
        """Passes that the judges got, wherever they came from, failed ones too."""
        return self.num_finished_passes + self.num_failed_passes + self.num_cached_passes + self.num_joined_passes
