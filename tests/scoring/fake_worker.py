"""A worker process with a fake engine: starts in a fraction of a second and does what the model's name and the instructions say."""

from __future__ import annotations

import os
import signal
import sys
import time

from fake_engine import FakeEngine, instruction_of

from editscore.scoring.engines import EngineSpec
from editscore.scoring.protocol import EngineLike
from editscore.scoring.worker import serve
from editscore.types import InvalidInputError, Request

COMMAND = (sys.executable, __file__)


class FakeWorkerEngine(FakeEngine):
    """Dies of a request that says so, and takes its time when the model is called slow."""

    delay_s = 0.0

    def add(self, request: Request) -> int:
        if "die" in instruction_of(request):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().add(request)

    def step(self) -> list:
        time.sleep(self.delay_s)
        return super().step()


def make_engine(spec: EngineSpec) -> EngineLike:
    if spec.model == "absent":
        raise InvalidInputError("model", "no model 'absent'")
    if spec.model == "broken":
        raise OSError("the disk is gone")
    if spec.model == "dying":
        os._exit(7)
    if spec.model == "babbling":
        os.write(1, b"hello, I am a library\n")
    engine = FakeWorkerEngine(identity={"numerics": spec.device.ljust(64, "n")})
    engine.delay_s = 0.05 if spec.model == "slow" else 0.0
    engine.breaks = lambda request: "stumble" in instruction_of(request)
    engine.refuses = lambda request: "refuse" in instruction_of(request)
    return engine


if __name__ == "__main__":
    from editscore.scoring.worker import own_streams

    serve(*own_streams(), make_engine)
