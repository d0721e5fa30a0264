"""Processes that share a model, with fake engines that do what instructions say, such as `die 1` for the second rank.

`python fake_ranks.py` is a worker whose engine leads, `python fake_ranks.py follow` a rank that follows.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any

import msgspec
from fake_engine import FakeEngine, instruction_of

from editscore.scoring import leader
from editscore.scoring.engines import EngineSpec
from editscore.types import Completion, InvalidInputError, Request

COMMAND = (sys.executable, __file__)
FOLLOW = (*COMMAND, "follow")


class FakeRanks:
    """Nobody to meet."""

    def listen(self) -> int:
        return 1

    def join(self, port: int, device: object) -> None: ...

    def leave(self) -> None: ...


class FakeRankEngine(FakeEngine):
    """Disturbed by instructions that name its rank."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(identity={"numerics": "group".ljust(64, "n")})
        self.model: Any = SimpleNamespace(ranks=FakeRanks(), device="cpu")
        self.is_restless = spec.model == f"restless {spec.rank}"
        self.rank, self.delay_s = spec.rank, 0.05 if spec.model == "slow" else 0.0
        self.breaks = lambda request: self.is_told("stumble", request) or "stumble all" in instruction_of(request)

    def is_told(self, word: str, *requests: Request) -> bool:
        return any(f"{word} {self.rank}" in instruction_of(request) for request in requests)

    def step(self) -> list[tuple[int, Completion]]:
        time.sleep(self.delay_s)
        requests = [request for request, _ in self._open.values()]
        if self.is_told("die", *requests):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.is_told("hang", *requests):
            time.sleep(60)
        delivered = super().step()
        if self.is_told("differ", *requests):
            return [(job, msgspec.structs.replace(completion, text="?")) for job, completion in delivered]
        return delivered

    def sleep(self) -> None:
        if self.is_restless:
            raise RuntimeError("no sleep")
        super().sleep()


def make_engine(spec: EngineSpec) -> Any:
    """An engine of a rank, or one that leads several."""
    if spec.model == f"absent {spec.rank}":
        raise InvalidInputError("model", "no model here")
    if spec.model == f"broken {spec.rank}":
        raise OSError("the disk is gone")
    if spec.model == f"dying {spec.rank}":
        os._exit(7)
    if "+" in spec.device:
        return leader.LeadingEngine(spec, FakeRankEngine, FOLLOW)
    return FakeRankEngine(spec)


if __name__ == "__main__":
    from editscore.scoring.follower import follow
    from editscore.scoring.worker import own_streams, serve

    leader._check = lambda spec, shares: None  # type: ignore[assignment]
    leader.PATIENCE_S = 1.0
    (follow if sys.argv[1:] else serve)(*own_streams(), make_engine)
