"""Many judges over one engine at once, without barriers: a judge whose completions are there goes on while others still wait.

The driver knows no threads. Between judge and engine it asks the cache, pass by pass, and joins questions that are the same.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, TypeVar

import msgspec

from editscore.scoring.cache import ResultCache, is_worth_keeping, pass_key
from editscore.scoring.judge_contract import check_requests, fault_of
from editscore.scoring.protocol import EngineLike
from editscore.types import Completion, Request, Score

JudgeRun = Generator[list[Request], list[Completion], Score]
Outcome = Score | Exception
Key = TypeVar("Key", bound=Hashable)
_PassId = tuple[str, int]  # digest of a request, pass

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Item(Generic[Key]):
    """One judge at work: what it asked last, and the answers that are there."""

    key: Key
    run: JudgeRun
    requests: list[Request] = field(default_factory=list)
    answers: list[dict[int, Completion]] = field(default_factory=list)  # per request, by pass

    def missing(self) -> Iterator[tuple[int, int]]:
        """(request, pass) pairs without an answer."""
        for place, request in enumerate(self.requests):
            for index in range(request.first_pass, request.first_pass + request.num_passes):
                if index not in self.answers[place]:
                    yield place, index

    def completions(self) -> list[Completion]:
        """All answers, request by request and pass by pass."""
        return [answers[index] for answers in self.answers for index in sorted(answers)]


@dataclass
class _Call:
    """A request in the engine, and the passes that are still to come."""

    request: Request
    open: set[int]


@dataclass
class PassCounts:
    """Passes that the engine was spared: the cache had them, or they were under way for another judge."""

    num_cached: int = 0
    num_joined: int = 0


class Driver(Generic[Key]):
    """Runs judges over an engine. `finished` collects (key, Score or the exception that ended the judge); the owner empties it.

    The text of a key stands for its sample in the log. `counts` goes on from what it holds.
    """

    def __init__(self, engine: EngineLike, cache: ResultCache | None = None, counts: PassCounts | None = None) -> None:
        self._engine = engine
        self._cache = cache
        self._counts = counts or PassCounts()
        self._identity = dict(engine.identity())
        self._items: dict[Key, _Item[Key]] = {}
        self._calls: dict[int, _Call] = {}
        self._waiters: dict[_PassId, list[tuple[_Item[Key], int]]] = {}
        self._alone: deque[_Item[Key]] = deque()  # after a failed step: judges that run one at a time
        self._ready: deque[tuple[_Item[Key], list[Completion] | None]] = deque()
        self.finished: list[tuple[Key, Outcome]] = []

    @property
    def num_active(self) -> int:
        """Judges at work."""
        return len(self._items)

    def start(self, key: Key, run: JudgeRun) -> None:
        """Take on a judge; `key` names it in `finished` and must not be in use."""
        if key in self._items:
            raise ValueError(f"{key!r} is at work already")
        item = _Item(key, run)
        self._items[key] = item
        self._ready.append((item, None))
        self._advance()

    def cancel(self, key: Key) -> None:
        """Drop a judge; nothing of it comes into `finished`. An unknown key is ignored."""
        item = self._items.pop(key, None)
        if item is not None:
            self._withdraw(item)
            item.run.close()

    def step(self) -> None:
        """One step of the engine; judges whose answers are complete go on."""
        if self._alone and not self._calls:
            self._ask(self._alone.popleft())
            self._advance()
        if not self._calls:
            return
        try:
            delivered = self._engine.step()
        except Exception as error:
            self._recover(error)
            return
        self._store(delivered)
        for call_id, completion in delivered:
            self._deliver(call_id, completion)
        self._advance()

    # Judges.

    def _advance(self) -> None:
        """Let every judge go on whose answers are complete, until all of them wait for the engine."""
        while self._ready:
            item, completions = self._ready.popleft()
            if item.key not in self._items:
                continue
            try:
                requests = item.run.send(completions) if completions is not None else next(item.run)
                check_requests(requests)
            except StopIteration as stop:
                self._finish(item, fault_of(stop.value) or stop.value)
                continue
            except Exception as error:
                _log.exception("the judge failed on sample %s: %r", item.key, error)
                self._finish(item, error)
                continue
            item.requests, item.answers = requests, [{} for _ in requests]
            self._ask(item)

    def _finish(self, item: _Item[Key], outcome: Outcome) -> None:
        del self._items[item.key]
        item.run.close()
        self.finished.append((item.key, outcome))

    def _ask(self, item: _Item[Key]) -> None:
        """Answer what the cache knows, join what is in flight already, and give the rest to the engine."""
        self._look_up(item)
        missing = list(item.missing())
        if not missing:
            self._ready.append((item, item.completions()))
            return
        if self._is_busy_alone(item):
            self._alone.append(item)
            return
        fresh: list[tuple[int, int]] = []
        for place, index in missing:
            waiters = self._waiters.setdefault((item.requests[place].digest, index), [])
            if not waiters:
                fresh.append((place, index))
            waiters.append((item, place))
        self._counts.num_joined += len(missing) - len(fresh)
        try:
            for place, first, count in _ranges(fresh):
                request = item.requests[place]
                if (first, count) != (request.first_pass, request.num_passes):
                    request = msgspec.structs.replace(request, first_pass=first, num_passes=count)
                self._calls[self._engine.add(request)] = _Call(request, set(range(first, first + count)))
        except Exception as error:
            _log.exception("the engine refused a request of sample %s: %r", item.key, error)
            self._withdraw(item)
            self._finish(item, error)

    def _is_busy_alone(self, item: _Item[Key]) -> bool:
        """After a failed step one judge runs at a time; the others, new ones too, wait for their turn."""
        return bool(self._alone) and any(waiter is not item for waiters in self._waiters.values() for waiter, _ in waiters)

    # Cache.

    def _look_up(self, item: _Item[Key]) -> None:
        if self._cache is None:
            return
        places: dict[bytes, list[tuple[int, int]]] = {}
        for place, index in item.missing():
            places.setdefault(pass_key(item.requests[place], index, self._identity), []).append((place, index))
        for key, completion in self._cache.get(list(places)).items():
            self._counts.num_cached += len(places[key])
            for place, index in places[key]:
                item.answers[place][index] = completion

    def _store(self, delivered: Sequence[tuple[int, Completion]]) -> None:
        if self._cache is None:
            return
        self._cache.put(
            (pass_key(self._calls[call_id].request, completion.pass_index, self._identity), completion)
            for call_id, completion in delivered
            if call_id in self._calls and is_worth_keeping(completion)
        )

    # Engine.

    def _deliver(self, call_id: int, completion: Completion) -> None:
        call = self._calls.get(call_id)
        if call is None or completion.pass_index not in call.open:
            return  # of a request that was cancelled
        call.open.discard(completion.pass_index)
        if not call.open:
            del self._calls[call_id]
        for item, place in self._waiters.pop((call.request.digest, completion.pass_index), []):
            item.answers[place][completion.pass_index] = completion
            if next(item.missing(), None) is None:
                self._ready.append((item, item.completions()))

    def _withdraw(self, item: _Item[Key]) -> None:
        """Forget what a judge waits for, and cancel what nobody else waits for."""
        if item in self._alone:
            self._alone.remove(item)
        for pass_id in [pass_id for pass_id, waiters in self._waiters.items() if any(w is item for w, _ in waiters)]:
            left = [waiter for waiter in self._waiters[pass_id] if waiter[0] is not item]
            if left:
                self._waiters[pass_id] = left
            else:
                del self._waiters[pass_id]
        for call_id, call in list(self._calls.items()):
            if not any((call.request.digest, index) in self._waiters for index in call.open):
                del self._calls[call_id]
                self._engine.cancel(call_id)

    def _recover(self, error: Exception) -> None:
        """A step failed and does not say because of whom: all that was in flight is asked again, one judge at a time.

        A judge that fails alone is the culprit, or the engine is broken; it ends with the exception.
        """
        at_work = list({id(item): item for waiters in self._waiters.values() for item, _ in waiters}.values())
        self._waiters.clear()
        calls, self._calls = list(self._calls), {}
        try:
            for call_id in calls:
                self._engine.cancel(call_id)
        except Exception as second:
            _log.exception("the engine could not cancel after a failed step")
            error.add_note(f"cancelling failed too: {second}")
            at_work, lost = [], at_work
            for item in lost:
                self._finish(item, error)
            return
        if len(at_work) == 1:
            _log.error("a step of the engine failed", exc_info=error)
            self._finish(at_work[0], error)
            return
        _log.warning("a step of the engine failed; %d judges go on one at a time", len(at_work), exc_info=error)
        self._alone.extend(at_work)


def _ranges(passes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(request, pass) pairs in order as (request, first pass, number of passes) of neighbours."""
    for (place, _), group in groupby(enumerate(passes), key=lambda item: (item[1][0], item[1][1] - item[0])):
        indices = [index for _, (_, index) in group]
        yield place, indices[0], len(indices)
