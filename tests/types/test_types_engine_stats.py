"""Counters of several engines: sums, phases, names."""

from __future__ import annotations

import msgspec
import pytest

from editscore.types import EngineStats, ScorerStats

ONE = EngineStats(
    num_requests=2, num_prompt_tokens=100, num_prefilled_tokens=40, attention="cpu avx2", seconds={"decode": 1.5, "prefill": 1.0}
)
TWO = EngineStats(num_requests=3, num_steps=7, attention="cpu avx2", seconds={"decode": 0.5, "sample": 0.25})


def test_counters_and_seconds_add_up() -> None:
    both = ONE + TWO
    assert both == EngineStats(
        num_requests=5,
        num_prompt_tokens=100,
        num_prefilled_tokens=40,
        num_steps=7,
        attention="cpu avx2",
        seconds={"decode": 2.0, "prefill": 1.0, "sample": 0.25},
    )
    assert ONE + EngineStats() == ONE == EngineStats() + ONE
    assert ONE.seconds == {"decode": 1.5, "prefill": 1.0}, "nothing was changed in place"


def test_every_counter_is_summed() -> None:
    """Also those that will be added one day."""
    numbers = {field.name: 2**i for i, field in enumerate(msgspec.structs.fields(EngineStats)) if field.type is int}
    twice = EngineStats(**numbers) + EngineStats(**numbers)
    assert {name: getattr(twice, name) for name in numbers} == {name: 2 * number for name, number in numbers.items()}


@pytest.mark.parametrize(
    ("names", "together"),
    [(("a", "a"), "a"), (("a", "b"), "a, b"), (("", "b"), "b"), (("a", ""), "a"), (("a, b", "b, c"), "a, b, c"), (("", ""), "")],
)
def test_different_attention_is_a_list(names: tuple[str, str], together: str) -> None:
    assert (EngineStats(attention=names[0]) + EngineStats(attention=names[1])).attention == together


def test_a_scorer_adds_what_engines_counted_to_its_own_and_keeps_its_kind() -> None:
    total = ScorerStats(num_cached_passes=5, num_joined_passes=1) + ONE + EngineStats(num_finished_passes=4)
    assert isinstance(total, ScorerStats)
    assert (total.num_requests, total.num_cached_passes, total.num_passes) == (2, 5, 10)


def test_what_was_shared_is_never_negative() -> None:
    assert ONE.num_reused_tokens == 60
    assert EngineStats(num_prompt_tokens=5, num_prefilled_tokens=9).num_reused_tokens == 0  # prompts that were dropped and read again


def test_stats_cross_the_wire() -> None:
    stats = ScorerStats(num_cached_passes=2) + ONE
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stats), type=ScorerStats) == stats
