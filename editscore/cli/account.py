"""The account of a run: what was asked, how much of it was computed, and where the time went."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from editscore.types import ScorerStats

# Phases of a step as the account names them, and in its order.
_PHASES = {
    "prefill": "prompts",
    "decode": "decoding",
    "logits": "output head",
    "sample": "sampling",
    "prepare_images": "preparing images",
    "encode_images": "encoding images",
    "schedule": "scheduling",
}


def print_account(stats: ScorerStats) -> None:
    """On stderr, as progress is: another run takes another time, while stdout has what both have in common."""
    for line in account_lines(stats):
        print(line, file=sys.stderr, flush=True)


def account_lines(stats: ScorerStats) -> list[str]:
    """A line of counts and a line of times. What is zero is left out, and so is a line of which nothing is left."""
    lines = ["; ".join(_counts(stats)), "; ".join(_times(stats))]
    return [line for line in lines if line]


def _counts(stats: ScorerStats) -> Iterator[str]:
    if stats.num_passes:
        failed = f", {stats.num_failed_passes:,} failed" if stats.num_failed_passes else ""
        yield f"passes: {stats.num_passes:,}{_spared(stats)}{failed}"
    if stats.num_prompt_tokens:
        share = round(100 * stats.num_reused_tokens / stats.num_prompt_tokens)
        shared = f" ({share}% shared)" if share else ""
        yield f"prompts: {stats.num_prompt_tokens:,} tokens, {stats.num_prefilled_tokens:,} computed{shared}"
    if stats.num_images:
        yield f"images: {stats.num_images:,} shown, {stats.num_encoded_images:,} encoded"
    if stats.num_sampled_tokens:
        yield f"generated: {stats.num_sampled_tokens:,} tokens"
    if stats.num_preempted_passes:
        yield f"started again for want of memory: {stats.num_preempted_passes:,} passes"
    if stats.num_cancelled_passes:
        yield f"cancelled: {stats.num_cancelled_passes:,} passes"


def _spared(stats: ScorerStats) -> str:
    if stats.num_cached_passes == stats.num_passes:
        return ", all from the cache"
    cached = f", {stats.num_cached_passes:,} from the cache" if stats.num_cached_passes else ""
    return cached + (f", {stats.num_joined_passes:,} shared by equal questions" if stats.num_joined_passes else "")


def _times(stats: ScorerStats) -> Iterator[str]:
    seconds = {words: f"{stats.seconds.get(phase, 0.0):.1f}" for phase, words in _PHASES.items()}
    shown = ", ".join(f"{number} s {words}" for words, number in seconds.items() if float(number))
    if shown:
        yield f"time: {shown}"
    if stats.num_steps:
        yield f"attention: {stats.attention}"
