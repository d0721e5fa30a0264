"""A rank that follows: `python -m editscore.scoring.follower`, started by `LeadingEngine`, never by hand.

It does what the first rank's process writes to it, in that order, a step only when told so, and says how each step ended. It ends as soon
as that process does.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, BinaryIO, cast

from editscore.scoring.leader import ranks_of
from editscore.scoring.wire import Ask, Cancel, Join, Ready, Step, Stepped, ToEngine, outcome
from editscore.scoring.worker import MakeEngine, Worker, listen, open_own_engine, own_streams

if TYPE_CHECKING:
    from editscore.engine import Engine

_log = logging.getLogger(__name__)


class Follower(Worker):
    """A worker whose engine counts its requests as the first rank's does, and whose steps are told."""

    def take(self, record: ToEngine) -> None:
        """Do what a record says. What fails here has not failed there: it ends the process."""
        engine = cast("Engine", self._engine)
        match record:
            case Step():
                _, error, word = outcome(engine.step)
                if error is not None:
                    _log.error("a step of the engine failed", exc_info=error)
                self._say(Stepped(word))
            case Ask(job):
                if engine.add(record.restored(self._images)) != job:
                    raise RuntimeError(f"request {job} of the first rank has another number here")
            case Cancel(job):
                engine.cancel(job)
            case Join(port):
                ranks_of(engine).join(port, engine.model.device)
                self._say(Ready(dict(engine.identity())))
            case _:
                super().take(record)


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
