"""Decode steps over fixed buffers, with a stand-in for CUDA's graphs that runs the captured function again: the bits of eager steps.

Rows enter and leave, their number grows beyond a bucket and shrinks, page tables outgrow their shape, padding rows stand beside real ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edit_requests import edit_request
from editscore_kernels import PreparedAttention
from torch import Tensor

from editscore.engine import Engine, EngineConfig, attention, graphs, runner
from editscore.engine.batches import DeviceBatch, HostBatch
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Completion, Request, Sampling, Text

Outputs = tuple[Tensor, Tensor]
CONFIG = EngineConfig(kv_memory_mb=16, max_rows=48)


class Recorder:
    """`graphs.capture` for the CPU: results stay where they first appeared, as those of a graph do."""

    def __init__(self) -> None:
        self.num_captured = self.num_replays = 0

    def __call__(self, function: Callable[[], Outputs], device: torch.device, pool: Any) -> tuple[Callable[[], None], Outputs]:
        self.num_captured += 1
        with torch.inference_mode():
            outputs = tuple(torch.full_like(x, 1) if x.dtype == torch.bool else torch.full_like(x, torch.nan) for x in function())

        def replay() -> None:
            self.num_replays += 1
            with torch.inference_mode():
                for place, value in zip(outputs, function(), strict=True):
                    place.copy_(value)

        return replay, outputs  # type: ignore[return-value]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """The reference reads tables as the kernels for GPUs do, those with padding too."""
    recorder = Recorder()
    monkeypatch.setattr(attention, "PreparedAttention", functools.partial(PreparedAttention, backend="reference"))
    monkeypatch.setattr(graphs, "capture", recorder)
    yield recorder


def on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "why_not", lambda *arguments: None)


def waves() -> list[list[Request]]:
    """Requests that come while others run: few, then many, then few; short and long; with and without forced tokens."""
    greedy = Sampling(temperature=0.0)
    first = [edit_request(0, num_images=1, answer=(Text(90),)), edit_request(1, num_images=0, answer=(Text(5),), sampling=greedy)]
    many = [edit_request(i, num_passes=3, num_images=i % 3, answer=(Text(3 + i),) if i % 2 else None) for i in range(2, 16)]
    return [first, many, [edit_request(20, num_passes=2, num_images=2, answer=(Text(20),))]]


def run(engine: Engine, turns: tuple[int, ...] = (0, 3, 20)) -> dict[tuple[int, int], Completion]:
    coming = dict(zip(turns, waves(), strict=True))
    found: dict[tuple[int, int], Completion] = {}
    for turn in range(400):
        for request in coming.pop(turn, []):
            engine.add(msgspec.structs.replace(request, logprobs=True))
        found.update({(job, completion.pass_index): completion for job, completion in engine.step()})
        if not coming and not engine.num_unfinished:
            return found
    raise AssertionError("it does not end")


def test_replayed_steps_give_the_bits_of_eager_ones(
    model: VisionLanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = Engine(model, CONFIG)
    expected = run(eager)
    assert (eager.stats.num_replayed_steps, eager.stats.graphs) == (0, "no: the model is on cpu")
    on(monkeypatch)
    engine = Engine(model, CONFIG)
    assert run(engine) == expected
    stats = engine.stats
    assert stats.graphs == "yes" and stats.num_replayed_steps == recorder.num_replays > 30
    buckets = {shapes[0][0] for shapes in engine._runner._graphs._captured}  # type: ignore[union-attr]
    assert buckets == {16, 32, 48}, "16, 32, and at most max_rows"
    is_long = model.config.model_type == "qwen2_5_vl"  # its answers outgrow four pages
    assert len(buckets) + is_long <= recorder.num_captured <= 12, "a table that outgrows its shape takes a new graph, and seldom"
    assert len({completion.text for completion in expected.values()}) > 35, "constant answers would prove nothing"


def test_after_sleep_nothing_of_the_old_store_is_replayed(
    qwen2_5: VisionLanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch)
    engine = Engine(qwen2_5, CONFIG)
    first, num_captured = run(engine), recorder.num_captured
    assert engine._runner._graphs is not None
    engine.sleep()
    assert engine._runner._graphs is None
    engine.wake()
    again = run(engine)
    assert list(first.values()) == list(again.values())
    assert recorder.num_captured == 2 * num_captured


def test_a_table_that_was_changed_under_a_graph_is_said(
    qwen2_5: VisionLanguageModel, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch)
    engine = Engine(qwen2_5, CONFIG)
    honest = attention.PagedAttention.problem
    engine.add(edit_request(0, num_images=0, answer=(Text(30),)))
    engine.step()
    monkeypatch.setattr(attention.PagedAttention, "problem", lambda self: ~honest(self))
    with pytest.raises(RuntimeError, match="a table of pages was changed"):
        engine.step()


def test_what_is_fixed_has_few_shapes_and_pads_with_nothing() -> None:
    seen: list[DeviceBatch] = []
    made = graphs.DecodeGraphs(lambda batch: (seen.append(batch), (batch.tokens, batch.slots))[1], torch.device("cpu"), 40)

    def batch(rows: int, leaves: int, width: int) -> HostBatch:
        tokens = np.arange(rows, dtype=np.int64)
        table = np.ones((leaves, width), np.int32), np.full(leaves, 16, np.int32), np.ones((rows, 3), np.int32)
        of_rows = np.zeros(rows, np.int32), np.arange(rows, dtype=np.int32), np.ones(rows, np.int32)
        return HostBatch(
            tokens, np.ones((3, rows), np.int64), tokens, (*table, *of_rows, np.arange(rows, dtype=np.int32), np.int32([0, rows]))
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "capture", lambda function, *rest: (function, function()))
        for rows, leaves, width in ((1, 1, 1), (16, 16, 5), (17, 16, 5), (20, 16, 8), (48, 16, 8), (9, 17, 9)):
            made.run(batch(rows, leaves, width))
    shapes = [(tokens, leaf_pages, own_pages) for tokens, _, _, leaf_pages, _, own_pages, *_ in made._captured]
    assert shapes == [
        ((16,), (1, 1), (16, 4)),
        ((16,), (16, 8), (16, 4)),
        ((32,), (16, 8), (32, 4)),  # twice
        ((48,), (16, 8), (48, 4)),  # not 64: there are at most 48 rows
        ((16,), (32, 16), (16, 4)),
    ]
    step = seen[0]
    assert step.tokens.tolist() == [0] * 16 and step.slots.tolist() == [0, *[-1] * 15]
    assert step.tables.row_seq.tolist() == step.tables.group_rows.tolist() == [0, *[-1] * 15]
    assert step.tables.group_starts.tolist() == [0, 1]


def test_why_not() -> None:
    cuda, cpu = torch.device("cuda", 1), torch.device("cpu")
    assert graphs.why_not(cuda, 1, True) is None
    assert graphs.why_not(cpu, 1, True) == "the model is on cpu"
    assert graphs.why_not(cuda, 1, False) == "switched off (cuda_graphs)"
    assert graphs.why_not(cuda, 2, True) == "2 devices share the model"
