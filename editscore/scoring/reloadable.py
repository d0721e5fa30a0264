"""An engine that gives its weights back while it sleeps."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from typing import Any

from editscore.scoring.protocol import EngineLike, GroupEngine, tracing
from editscore.types import Completion, EngineStats, Request


class ReloadableEngine:
    """The engine of `make` (see `EngineLike`), which is called at once and again where `wake` needs it.

    With `offloads` the engine's own `sleep` takes its weights off the device, to the host. Otherwise there is nowhere to move them: the
    engine is dropped and made again. `engine` is the one that is there, None while there is none; `stats` counts all of them.
    """

    def __init__(self, make: Callable[[], EngineLike], *, offloads: bool = False) -> None:
        self._make = make
        self._offloads = offloads
        self._leaving = threading.Lock()  # so that an engine is counted once when it goes
        self._before = EngineStats()  # of engines that are gone
        self._is_traced = False
        self.engine: EngineLike | None = make()
        self._identity = dict(self.engine.identity())

    def add(self, request: Request) -> int:
        """As the engine; RuntimeError while there is none."""
        return self._present().add(request)

    def step(self) -> list[tuple[int, Completion]]:
        """As the engine; RuntimeError while there is none."""
        return self._present().step()

    def cancel(self, job_id: int, /) -> None:
        """As the engine. While there is none, there is no request either."""
        if self.engine is not None:
            self.engine.cancel(job_id)

    def identity(self) -> Mapping[str, str]:
        """That of the engine made last."""
        return self._identity

    @property
    def stats(self) -> EngineStats:
        """What all engines did since the first was made."""
        with self._leaving:
            return self._before + (EngineStats() if self.engine is None else self.engine.stats)

    def record_trace(self) -> None:
        """As the engine, also for those that are made later. Raises InvalidInputError for one that keeps no trace."""
        tracing(self.engine).record_trace()
        self._is_traced = True

    def trace(self) -> dict[str, Any]:
        """As the engine that is there."""
        return tracing(self.engine).trace()

    def sleep(self) -> None:
        """Give back the weights' memory, too: that of the device, or all of it."""
        if self._offloads and self.engine is not None:
            self.engine.sleep()
        elif self.engine is not None:
            if isinstance(self.engine, GroupEngine):
                self.engine.close()
            with self._leaving:
                self._before += self.engine.stats
                self.engine = None
            gc.collect()

    def wake(self) -> None:
        """Undo `sleep`; without one nothing happens. Raises what `make` raises, and then sleeps on."""
        if self.engine is not None:
            self.engine.wake()
            return
        engine = self._make()
        if self._is_traced:
            tracing(engine).record_trace()
        self._identity = dict(engine.identity())
        self.engine = engine

    def _present(self) -> EngineLike:
        if self.engine is None:
            raise RuntimeError("the engine is asleep: call wake() first")
        return self.engine
