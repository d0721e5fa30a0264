"""`--profile`: the engine's steps as a Chrome trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from editscore.cli.scorers import SampleScorer, ScorerOptions
from editscore.cli.targets import check_target
from editscore.data import atomic_write
from editscore.types import InvalidInputError


def check_profile(path: Path | None, options: ScorerOptions) -> None:
    """Raise InvalidInputError("profile") before a model is loaded when there will be no trace."""
    if path is None:
        return
    if options.devices is not None:
        raise InvalidInputError("profile", "a trace is of one engine in this process: use --device instead of --devices")
    check_target(path, "profile")


@contextmanager
def profiled(scorer: SampleScorer, path: Path | None) -> Iterator[None]:
    """Record inside the block and write the trace at its end, also when the block is interrupted. Without a path nothing happens."""
    if path is None:
        yield
        return
    scorer.record_trace()
    try:
        yield
    finally:
        _write(scorer, path)


def _write(scorer: SampleScorer, path: Path) -> None:
    trace = scorer.trace()
    told = trace.get("otherData", {})
    trace["otherData"] = {**told, "identity": scorer.identity(), "stats": scorer.stats()}
    with atomic_write(path, "profile") as file:
        file.write(msgspec.json.encode(trace))
    hint = "open it at https://ui.perfetto.dev or in Chrome at chrome://tracing"
    if not trace["traceEvents"]:
        hint = "it is empty, since nothing was computed; --no-cache leaves stored answers out"
    print(f"profile: {path}: {hint}", file=sys.stderr)
    if num_dropped := told.get("num_dropped_events"):
        num_kept = sum(event["ph"] == "X" for event in trace["traceEvents"])
        print(f"warning: the trace has the last {num_kept:,} phases; {num_dropped:,} earlier ones were not kept", file=sys.stderr)
