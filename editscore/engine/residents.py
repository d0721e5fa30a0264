"""Who waits, whose prompt is in the KV store, and which passes are in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from itertools import islice

import numpy as np
from editscore_kernels.kv import PAGE_TOKENS

from editscore.engine.config import EngineConfig
from editscore.engine.runner import Runner
from editscore.engine.sampling import signed
from editscore.engine.schedule import EXPECTED_TOKENS, Candidate, admit
from editscore.engine.sequences import Job, Leaf, Row
from editscore.engine.stats import StatsRecorder
from editscore.engine.tables import num_pages

# Waiting requests whose images are prepared beside the model's work.
JOBS_AHEAD = 32


class Residents:
    """The queue, the prompts by key, and the passes in flight in order of arrival."""

    def __init__(self, runner: Runner, config: EngineConfig, stats: StatsRecorder) -> None:
        self._runner, self._config, self._stats = runner, config, stats
        self.waiting: deque[Job] = deque()
        self.leaves: dict[bytes, Leaf] = {}
        self.rows: dict[Row, None] = {}

    def enqueue(self, job: Job) -> None:
        """A request waits; one with the same prompt shares it."""
        job.leaf = self.leaves.setdefault(job.leaf.key, job.leaf)
        job.leaf.num_users += 1
        self.waiting.append(job)

    def dequeue(self, job: Job) -> list[int]:
        """A request waits no longer: the passes that had not started."""
        if job in self.waiting:
            self.waiting.remove(job)
        passes, job.waiting = job.waiting, []
        return passes

    def leave(self, job: Job) -> None:
        """A request is done; its prompt goes with its last user, and so do images that were prepared for it alone."""
        leaf = job.leaf
        leaf.num_users -= 1
        if leaf.num_users:
            return
        del self.leaves[leaf.key]
        if leaf.slot >= 0:
            self._runner.tables.remove_leaf(leaf, clear=leaf.must_clear)
        if self._runner.images.has_prepared(leaf.images):  # those of a prompt that was read are not there any more
            self._keep_images()

    def admit(self) -> list[Row]:
        """Lets waiting passes in, in order of arrival, and computes the prompts they need."""
        started = self._startable()
        if self.waiting and not started and not self.rows:
            self._evict_idle(keep=self.waiting[0].leaf)
            started = self._startable()
        leaves: list[Leaf] = []
        fresh: list[Row] = []
        for count in started:
            job = self.waiting.popleft()
            if job.leaf.slot < 0:
                self._runner.tables.add_leaf(job.leaf)
                leaves.append(job.leaf)
            indices, job.waiting = job.waiting[:count], job.waiting[count:]
            fresh.extend(self._start(job, index) for index in indices)
            if job.waiting:
                self.waiting.appendleft(job)
        soon = [*leaves, *(job.leaf for job in islice(self.waiting, JOBS_AHEAD))]
        self._runner.images.prepare_ahead(image for leaf in soon for image in leaf.images)
        if leaves:
            self._runner.prefill(leaves)
        return fresh

    def _startable(self) -> list[int]:
        """How many passes of each of the first waiting requests can start."""
        num_rows, num_free = self._runner.tables.num_free_rows, self._runner.store.num_free
        candidates = [self._candidate(job) for job in islice(self.waiting, num_rows)]
        return admit(candidates, free_rows=num_rows, free_pages=num_free, prefill_tokens=self._config.prefill_tokens)

    def _candidate(self, job: Job) -> Candidate:
        tokens = 0 if job.leaf.slot >= 0 else len(job.leaf.tokens)
        expected = num_pages(len(job.leaf.tokens) % PAGE_TOKENS + min(EXPECTED_TOKENS, job.grammar.shape.max_tokens))
        return Candidate(id(job.leaf), tokens, num_pages(tokens), len(job.waiting), expected)

    def _start(self, job: Job, index: int) -> Row:
        job.leaf.num_rows += 1
        answer = job.grammar.start()
        key = signed(job.request.pass_key(index))
        return Row(job, index, answer, key, self._runner.tables.add_row(job.leaf), num_fed=len(answer.tokens))

    def make_room(self) -> None:
        """Frees pages until every pass in flight can take its next tokens: idle prompts first, then the youngest requests."""
        tables, store = self._runner.tables, self._runner.store
        while self.rows:
            slots = np.asarray([row.slot for row in self.rows], np.int32)
            counts = np.asarray([len(row.answer.tokens) - row.num_fed for row in self.rows], np.int32)
            if tables.num_missing(slots, counts) <= store.num_free:
                return
            if not self._evict_idle():
                self._preempt()

    def _evict_idle(self, keep: Leaf | None = None) -> bool:
        """Drops the prompts that no pass in flight uses; they are computed again when they are needed."""
        idle = [leaf for leaf in self.leaves.values() if leaf.slot >= 0 and not leaf.num_rows and leaf is not keep]
        for leaf in idle:
            self._runner.tables.remove_leaf(leaf, clear=leaf.must_clear)
        return bool(idle)

    def _preempt(self) -> None:
        """Sends the youngest request back to the queue (of the oldest one only its last pass); it will give the same answer."""
        rows = list(self.rows)
        job = rows[-1].job
        victims = rows[-1:] if rows[0].job is job else [row for row in rows if row.job is job]
        self._stats.count(num_preempted_passes=len(victims))
        for row in victims:
            self.release(row)
        job.waiting = sorted(job.waiting + [row.pass_index for row in victims])
        if job not in self.waiting:
            self.waiting.appendleft(job)

    def restart(self, jobs: Collection[Job]) -> None:
        """Makes the books anew, whatever state they are in: every open pass of these requests waits, and the KV store is empty."""
        self._runner.reset()
        self._runner.images.recount()
        self.rows.clear()
        self.leaves.clear()
        self.waiting.clear()
        for job in jobs:
            job.leaf.leave_store()
            job.leaf.num_users = job.leaf.num_rows = 0
        for job in jobs:
            job.waiting = sorted(job.open)
            self.enqueue(job)
        self._keep_images()

    def _keep_images(self) -> None:
        """Lets go of images that were prepared ahead for prompts that are gone."""
        self._runner.images.keep_prepared(image for leaf in self.leaves.values() for image in leaf.images)

    def release(self, row: Row, *, clear: bool = False) -> None:
        """A pass leaves; with `clear` its pages hold numbers that are not finite."""
        self.rows.pop(row, None)
        self._runner.tables.remove_row(row.slot, clear=clear)
        row.job.leaf.num_rows -= 1
