"""A rank that follows: `python -m editscore.scoring.follower`, started by `LeadingEngine`, never by hand.

It does what the first rank's process writes to it, in that order, a step only when told so, and says how each step ended. It ends as soon
as that process does.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, cast

from editscore.scoring.leader import ranks_of
from editscore.scoring.wire import Ask, Cancel, Join, Ready, Sleep, Step, Stepped, ToEngine, Wake, outcome
from editscore.scoring.worker import MakeEngine, Worker, listen, open_own_engine, own_streams

if TYPE_CHECKING:
    from editscore.engine import Engine

_log = logging.getLogger(__name__)


class Follower(Worker):
    """A worker whose engine counts its requests as the first rank's does, and whose steps are told."""

    def take(self, record: ToEngine) -> None:
        """Do what a record says. What fails here has not failed there: it ends the process."""
        match record:
            case Step():
                self._in_step(self._own.step)
            case Sleep():
                self._in_step(self._own.sleep)
            case Wake():
                self._in_step(self._own.wake)
            case Ask(job):
                if self._own.add(record.restored(self._images)) != job:
                    raise RuntimeError(f"request {job} of the first rank has another number here")
            case Cancel(job):
                self._own.cancel(job)
            case Join(port):
                ranks_of(self._own).join(port, self._own.model.device)
                self._say(Ready(dict(self._own.identity())))
            case _:
                super().take(record)

    @property
    def _own(self) -> Engine:
        """The engine itself: the first rank's process decides whether it sleeps or ends."""
        assert self._engine is not None
        return cast("Engine", self._engine.engine)

    def _in_step(self, act: Callable[[], object]) -> None:
        _, error, word = outcome(act)
        if error is not None:
            _log.error("a step of the engine failed", exc_info=error)
        self._say(Stepped(word))


def follow(source: BinaryIO, sink: BinaryIO, make_engine: MakeEngine = open_own_engine) -> None:
    """Work until `source` ends, which ends the process."""
    inbox: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(source, inbox), name="editscore-listener", daemon=True).start()
    follower = Follower(sink, make_engine)
    while True:
        follower.take(inbox.get())


def main() -> None:
    """The process's whole life."""
    streams = own_streams()
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    follow(*streams)


if __name__ == "__main__":
    main()
