"""What an engine did and where its time went: counters, seconds by phase, and on demand every phase as a Chrome trace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from editscore.types import EngineStats

__all__ = ["MAX_EVENTS", "PHASES", "EngineStats", "StatsRecorder"]

# Phases of a step, in its order. `prefill` and `decode` are the language model with attention, `logits` is its output head.
PHASES = ("schedule", "prepare_images", "encode_images", "prefill", "decode", "logits", "sample")
# Phases kept for a trace: some 100 MB of JSON. The newest ones, since a short run shows how a run begins just as well, and a long one is
# looked at for what it does now.
MAX_EVENTS = 1_000_000


class StatsRecorder:
    """The one place where an engine counts. `with phase(name)` may nest: time goes to the innermost phase.

    `graphs`: "yes", or why decode steps are not replayed as CUDA graphs. `flash_prefill`: "yes", or why prompts are not read by flash-attn.
    """

    def __init__(self) -> None:
        self.graphs = ""
        self.flash_prefill = ""
        self._counts: dict[str, int] = {}
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._open: list[str] = []
        self._since = 0.0
        self._events: deque[tuple[str, float, float]] | None = None
        self._num_events = 0

    def count(self, **changes: int) -> None:
        """Adds to counters of `EngineStats` by name."""
        for name, change in changes.items():
            self._counts[name] = self._counts.get(name, 0) + change

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time inside the block belongs to the phase."""
        began = time.perf_counter()
        self._switch(began)
        self._open.append(name)
        try:
            yield
        finally:
            ended = time.perf_counter()
            self._switch(ended)
            self._open.pop()
            if self._events is not None:
                self._events.append((name, began, ended))
                self._num_events += 1

    def close_phases(self) -> None:
        """No phase is open any more; an interrupt may have kept one from being closed."""
        self._open.clear()

    def _switch(self, now: float) -> None:
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now

    def snapshot(self, attention: str) -> EngineStats:
        """The counters as they stand."""
        seconds = dict(self._seconds)
        return EngineStats(**self._counts, attention=attention, graphs=self.graphs, flash_prefill=self.flash_prefill, seconds=seconds)

    def record_trace(self) -> None:
        """From now on every phase is kept, the newest `MAX_EVENTS` of them."""
        if self._events is None:
            self._events = deque(maxlen=MAX_EVENTS)

    def trace(self) -> dict[str, Any]:
        """What was kept, in Chrome's trace event format (chrome://tracing, Perfetto); times in microseconds.

        `otherData.num_dropped_events` counts the phases that were not kept; if there are any, an event at the beginning says so, too.
        """
        num_ended, kept = self._num_events, list(self._events or ())
        num_dropped = max(0, num_ended - len(kept))  # another thread may be recording: counted first, so never too many
        start = min((began for _, began, _ in kept), default=0.0)
        events: list[dict[str, Any]] = [
            {"name": name, "ph": "X", "pid": 0, "tid": 0, "ts": (began - start) * 1e6, "dur": (ended - began) * 1e6}
            for name, began, ended in kept
        ]
        if num_dropped:
            events.insert(0, {"name": f"{num_dropped} earlier phases were not kept", "ph": "i", "s": "g", "pid": 0, "tid": 0, "ts": 0.0})
        return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"num_dropped_events": num_dropped}}
