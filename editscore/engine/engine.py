"""The engine: requests in, completions out, all of them together. `step()` is schedule, run, postprocess."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch import Tensor

from editscore.engine.attention import attention_numerics, check
from editscore.engine.completions import completed, failed
from editscore.engine.config import EngineConfig
from editscore.engine.intake import Intake
from editscore.engine.memory import fit
from editscore.engine.numerics import engine_identity
from editscore.engine.residents import Residents
from editscore.engine.runner import Runner
from editscore.engine.sampling import Draw, start_draw
from editscore.engine.sequences import Job, Row
from editscore.engine.stats import EngineStats, StatsRecorder
from editscore.engine.transfer import to_host
from editscore.models.vlm import VisionLanguageModel, in_mode
from editscore.types import Completion, FinishReason, InvalidInputError, Request, Status

Delivery = tuple[int, Completion]

# How a pass that ended is counted; any other end is an answer.
_COUNTERS = {FinishReason.FAILED: "num_failed_passes", FinishReason.CANCELLED: "num_cancelled_passes"}


class Engine:
    """Runs requests on one model. Not for use by several threads at once; two engines in one process are independent.

    An exception in the middle of a call, an interrupt too, loses nothing that was added: what was not delivered yet begins again with the
    next call, and gives the same answers. Raises InvalidInputError naming `memory_gb` when the model and one request do not fit into it.
    """

    def __init__(self, model: VisionLanguageModel, config: EngineConfig | None = None) -> None:
        self.config = fit(config or EngineConfig(), model.sizes)
        self.model = model = in_mode(model, self.config.mode)
        self._stats = StatsRecorder()
        self._runner = Runner(model, self.config, self._stats)
        self._residents = Residents(self._runner, self.config, self._stats)
        self._intake = Intake(model, self.config)
        self._jobs: dict[int, Job] = {}
        self._ready: list[Delivery] = []
        self._next_id = 0
        self._is_torn = False
        self._identity: dict[str, str] = {}  # once asked
        self._attention = attention_numerics(model)  # once: it makes a little store to ask with, and `stats` is read some times a second

    # Requests.

    def add(self, request: Request) -> int:
        """Takes a request and returns its id. What is wrong with it comes back as failed completions of that request alone.

        RuntimeError while the engine sleeps.
        """
        if self._runner.is_asleep:
            raise RuntimeError("the engine is asleep: call wake() first")
        job_id = self._next_id
        self._next_id += 1
        try:
            job = self._intake.job(job_id, request, self._runner.num_pages)
        except InvalidInputError as error:
            passes = range(request.first_pass, request.first_pass + request.num_passes)
            self._ready += [(job_id, failed(i, Status.INVALID_INPUT, str(error))) for i in passes]
            self._stats.count(num_failed_passes=request.num_passes)
            return job_id
        with self._whole():
            self._jobs[job_id] = job
            self._residents.enqueue(job)
            self._stats.count(num_requests=1, num_prompt_tokens=len(job.leaf.tokens), num_images=len(job.leaf.images))
        return job_id

    def cancel(self, job_id: int) -> None:
        """Ends a request: its open passes are delivered as cancelled by the next step. An unknown or finished id is ignored."""
        with self._whole():
            job = self._jobs.get(job_id)
            if job is None:
                return
            for row in [row for row in self._residents.rows if row.job is job]:
                self._end(row, completed(row, FinishReason.CANCELLED))
            for index in self._residents.dequeue(job):
                self._deliver(job, Completion(index, "", FinishReason.CANCELLED, num_prompt_tokens=job.leaf.num_prompt_tokens))

    @property
    def num_unfinished(self) -> int:
        """Requests with passes that `step` has still to deliver."""
        return len(self._jobs) + len({job_id for job_id, _ in self._ready} - set(self._jobs))

    def step(self) -> list[Delivery]:
        """Lets waiting passes in, computes one token of every pass in flight, and returns the passes that ended."""
        self._advance()
        ready, self._ready = self._ready, []
        return ready

    def generate(self, requests: Iterable[Request]) -> list[Completion]:
        """Runs requests to their end: completions in the order of the requests, each one's passes in order."""
        first = self._next_id
        try:
            for request in requests:
                self.add(request)
            while any(job_id >= first for job_id in self._jobs):
                self._advance()
            mine = sorted((job_id, c.pass_index, i) for i, (job_id, c) in enumerate(self._ready) if job_id >= first)
            return [self._ready[i][1] for _, _, i in mine]
        finally:
            for job_id in range(first, self._next_id):
                self.cancel(job_id)
            self._ready = [item for item in self._ready if item[0] < first]

    def sleep(self) -> None:
        """Gives back the memory of keys, values and images; on a GPU the weights move to the host. RuntimeError while requests are
        open; what ended, but was not delivered yet, the next step delivers, also before `wake`."""
        self._mend()
        if self._jobs:
            raise RuntimeError(f"{len(self._jobs)} requests are not finished")
        if not self._runner.is_asleep:
            self.identity()  # before its weights are elsewhere
            with self._whole():
                self._runner.sleep()

    def wake(self) -> None:
        """Undoes `sleep`; without one nothing happens. Answers are the same as before."""
        with self._whole():
            self._runner.wake()

    @property
    def stats(self) -> EngineStats:
        """What this engine did so far and where its time went."""
        return self._stats.snapshot(self._attention)

    def record_trace(self) -> None:
        """From now on keeps every phase of every step for `trace`."""
        self._stats.record_trace()

    def trace(self) -> dict[str, Any]:
        """The phases kept, in Chrome's trace event format."""
        return self._stats.trace()

    def identity(self) -> dict[str, str]:
        """SHA-256 hashes (hex) of all that decides an answer besides the request: model, adapter, preprocessing, numerics."""
        self._identity = self._identity or engine_identity(self.model, self.config.mode)
        return dict(self._identity)

    # Run.

    def _advance(self) -> None:
        """One step; the passes that ended in it wait in `_ready`."""
        with self._whole():
            if self._jobs:
                with self._stats.phase("schedule"):
                    self._run_fresh(self._residents.admit())
                    self._run_rows()
                self._stats.count(num_steps=1)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Around what has to be done as a whole: when an exception ends it, at whatever line, the next block makes the books anew."""
        self._mend()
        self._is_torn = True
        yield
        self._is_torn = False

    def _mend(self) -> None:
        """What was delivered stands; the rest of the open requests waits again, with nothing in the KV store."""
        if not self._is_torn:
            return
        self._stats.close_phases()
        delivered = {(job_id, completion.pass_index) for job_id, completion in self._ready}
        for job in list(self._jobs.values()):
            job.open = {index for index in job.open if (job.id, index) not in delivered}
            if not job.open:
                del self._jobs[job.id]
        if not self._runner.is_asleep:
            self._residents.restart(self._jobs.values())
        self._is_torn = False

    def _run_fresh(self, fresh: list[Row]) -> None:
        """What passes that start now begin with: the heads that they read, and a token drawn after their prompt."""
        ended = [row for row in fresh if row.answer.finish_reason is not None]
        rows = [row for row in fresh if row.answer.finish_reason is None]
        self._residents.rows.update(dict.fromkeys(rows))
        reads = {row.job: row.job.request.read for row in fresh if not row.job.heads}
        heads = [(job, name, self._read_head(job, name)) for job, names in reads.items() for name in names]
        self._draw(self._runner.first_logits(rows), heads)
        for row in ended:
            assert row.answer.finish_reason is not None
            self._end(row, completed(row, row.answer.finish_reason))

    def _read_head(self, job: Job, name: str) -> Tensor:
        assert job.leaf.hidden is not None
        return self.model.read_head(name, job.leaf.hidden)

    def _run_rows(self) -> None:
        self._residents.make_room()
        if self._residents.rows:
            self._draw(self._runner.decode(list(self._residents.rows)))

    def _draw(self, parts: Iterable[tuple[Sequence[Row], Tensor]], heads: Sequence[tuple[Job, str, Tensor]] = ()) -> None:
        """Starts every draw, then reads all that the device has to say in one go."""
        pending = []
        for rows, logits in parts:
            with self._stats.phase("sample"):
                pending.append(start_draw(rows, logits, self._intake.tokenizer))
        with self._stats.phase("sample"):
            problems = self._runner.take_problems()
            read = to_host([*problems, *(head for _, _, head in heads), *(x for draws in pending for x in draws.tensors)])
            check(read[: len(problems)])
            for (job, name, _), values in zip(heads, read[len(problems) :], strict=False):
                job.heads = {**job.heads, name: tuple(values.tolist())}
            results = iter(read[len(problems) + len(heads) :])
            for draws in pending:
                drawn = draws.finish(*islice(results, len(draws.tensors)))
                self._take(draws.rows, drawn)
                self._stats.count(num_sampled_tokens=sum(draw.token >= 0 for draw in drawn))

    # Postprocess.

    def _take(self, rows: Sequence[Row], draws: Sequence[Draw]) -> None:
        lengths = self._runner.tables.own_lengths
        for row, drawn in zip(rows, draws, strict=True):
            answer = row.answer
            if drawn.token < 0:
                message = f"request {row.job.id}, pass {row.pass_index}: {drawn.problem}"
                self._end(row, completed(row, FinishReason.FAILED, Status.ERROR, message), clear=drawn.is_poisoned)
                continue
            row.num_sampled += 1
            place = len(answer.tokens)
            if row.job.request.logprobs:
                row.logprobs[place] = drawn.logprob
            if num_dropped := answer.take(drawn.token):
                row.logprobs = {i: value for i, value in row.logprobs.items() if i <= place - num_dropped}
                num_valid = min(row.num_fed, row.num_fed + 1 - num_dropped)
                lengths[row.slot] -= row.num_fed - num_valid
                row.num_fed = num_valid
            if answer.finish_reason is not None:
                self._end(row, completed(row, answer.finish_reason))

    def _end(self, row: Row, completion: Completion, *, clear: bool = False) -> None:
        row.job.leaf.must_clear |= clear
        self._residents.release(row, clear=clear)
        self._deliver(row.job, completion)

    def _deliver(self, job: Job, completion: Completion) -> None:
        self._ready.append((job.id, completion))
        job.open.discard(completion.pass_index)
        self._stats.count(**{_COUNTERS.get(completion.finish_reason, "num_finished_passes"): 1})
        if job.open:
            return
        del self._jobs[job.id]
        self._residents.leave(job)
