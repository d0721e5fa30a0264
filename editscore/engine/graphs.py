"""Decode steps as CUDA graphs: one captured graph per number of rows, replayed over buffers that keep their place.

A decode step of a few rows is hundreds of small kernels, and launching them takes the host longer than the device needs to run them.
Everything that a step reads lies in one buffer of fixed shape, filled by one copy; rows and tables are padded to the next power of two,
so a graph serves as the rows come and go and the tables grow, and a table that outgrows its shape takes the graph of the next one.
Never run on a GPU; tests/engine/test_graphs.py runs all but the capture itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editscore.engine.batches import DeviceBatch, HostBatch
from editscore.engine.transfer import Array, packed, unpacked

MIN_ROWS = 16

Outputs = tuple[Tensor, Tensor]
Compute = Callable[[DeviceBatch], Outputs]


@dataclass(frozen=True)
class Captured:
    """A graph: `replay` computes `outputs` anew from what lies in `inputs`."""

    inputs: Tensor
    replay: Callable[[], None]
    outputs: Outputs


class DecodeGraphs:
    """The graphs of one engine. They hold the addresses of weights and pages: whoever moves these makes a new one."""

    def __init__(self, compute: Compute, device: torch.device, max_rows: int) -> None:
        self._compute, self._device = compute, device
        self._max_rows = -(-max_rows // MIN_ROWS) * MIN_ROWS
        # One pool for all graphs: they never run side by side, and what one gives out is read before the next one runs.
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._captured: dict[tuple[tuple[int, ...], ...], Captured] = {}

    def run(self, batch: HostBatch) -> Outputs:
        """What `compute` makes of the batch; the rows beyond the batch's are padding. Overwritten by the next call."""
        arrays = self._fixed(batch)
        shapes = tuple(x.shape for x in arrays)
        together = packed(arrays)
        captured = self._captured.get(shapes)
        if captured is None:
            inputs = together.to(self._device, copy=True)
            step = DeviceBatch.of(unpacked(inputs, arrays))
            replay, outputs = capture(lambda: self._compute(step), self._device, self._pool)
            captured = self._captured[shapes] = Captured(inputs, replay, outputs)
        else:
            captured.inputs.copy_(together, non_blocking=True)
        captured.replay()
        return captured.outputs

    def _fixed(self, batch: HostBatch) -> list[Array]:
        """The arrays of a batch, padded so that few shapes occur. Padding belongs to no group and no sequence, and is written nowhere."""
        rows = min(_power_of_two(max(MIN_ROWS, len(batch.tokens))), max(self._max_rows, len(batch.tokens)))
        leaf_pages, leaf_lengths, own_pages, seq_leaf, row_seq, row_lengths, group_rows, group_starts = batch.tables
        leaves = _power_of_two(len(leaf_lengths))
        return [
            _padded(batch.tokens, (rows,), 0),
            _padded(batch.positions, (3, rows), 0),
            _padded(batch.slots, (rows,), -1),
            _padded(leaf_pages, (leaves, _power_of_two(leaf_pages.shape[1])), 0),
            _padded(leaf_lengths, (leaves,), 0),
            _padded(own_pages, (rows, _power_of_two(own_pages.shape[1])), 0),
            _padded(seq_leaf, (rows,), -1),
            _padded(row_seq, (rows,), -1),
            _padded(row_lengths, (rows,), 1),
            _padded(group_rows, (rows,), -1),
            # Every group has a prompt of its own, so there are no more of them than prompts; those beyond the last are empty.
            _padded(group_starts, (max(min(rows, leaves) + 1, len(group_starts)),), int(group_starts[-1])),
        ]


def capture(function: Callable[[], Outputs], device: torch.device, pool: Any) -> tuple[Callable[[], None], Outputs]:
    """A function on a CUDA device as a graph that takes its memory from `pool`: how to replay it, and where its results appear."""
    with torch.cuda.device(device):
        warm = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warm.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm):  # kernels are compiled and libraries take their memory before the capture, where they may not
            function()
        torch.cuda.current_stream().wait_stream(warm)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            outputs = function()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay, outputs


def why_not(device: torch.device, num_ranks: int, is_wanted: bool) -> str | None:
    """Why decode steps are not captured, or None."""
    if not is_wanted:
        return "switched off (cuda_graphs)"
    if device.type != "cuda":
        return f"the model is on {device}"
    return f"{num_ranks} devices share the model" if num_ranks > 1 else None


def _padded(x: Array, shape: tuple[int, ...], value: int) -> Array:
    padded = np.full(shape, value, x.dtype)
    padded[tuple(map(slice, x.shape))] = x
    return padded


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
