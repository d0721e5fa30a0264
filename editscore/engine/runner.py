"""The tensors of a step: prompts into the KV store, passes one token further.

Every call of the model is one flat batch over all requests; there is no loop over requests around a model call.
Legend: N tokens of a flat batch (a multiple of the model's `row_multiple`), R rows (passes), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from editscore_kernels.kv import PAGE_TOKENS, KVStore
from editscore_kernels.page_tables import PageTables
from torch import Tensor

from editscore.engine.attention import PagedAttention
from editscore.engine.batches import DeviceBatch, HostBatch, Stretch, chunks, host_batch, image_rows, padded_rows, prefill_batch
from editscore.engine.config import EngineConfig
from editscore.engine.flash import KEYS_PER_TOKEN, FlashPrefill, SeenKeys
from editscore.engine.flash import why_not as flash_why_not
from editscore.engine.graphs import DecodeGraphs, why_not
from editscore.engine.images import ImageEncoder
from editscore.engine.sequences import Leaf, Row
from editscore.engine.stats import StatsRecorder
from editscore.engine.tables import CacheTables
from editscore.engine.transfer import Array, to_device
from editscore.models.vlm import ImageFeatures, VisionLanguageModel

# Rows whose logits are computed together come in multiples of this, which is one of every model's `row_multiple`.
PART_ROWS = 16


class Runner:
    """The model, the KV store and the encoded images of one engine."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig, stats: StatsRecorder) -> None:
        self.model, self.config, self._stats = model, config, stats
        element = model.dtype.itemsize
        page_bytes = 2 * model.num_layers * model.num_kv_heads * PAGE_TOKENS * model.head_dim * element
        self.num_pages = max(2, config.kv_memory_mb * 2**20 // page_bytes)
        self._logit_rows = config.logits_mb * 2**20 // (element * model.vocab_size)
        self._device = model.device
        reason = flash_why_not(model, config.mode)
        self._reads_by_flash = reason is None
        stats.flash_prefill = f"no: {reason}" if reason else "yes"
        self.images = ImageEncoder(model, config, stats)
        self._open_store()

    def _open_store(self) -> None:
        model = self.model
        self.store = KVStore(model.num_layers, model.num_kv_heads, model.head_dim, self.num_pages, model.dtype, model.device)
        self._buffer: Tensor | None = None
        self._problems: list[Tensor] = []
        reason = why_not(self._device, model.num_ranks, self.config.cuda_graphs)
        self._graphs = DecodeGraphs(self._compute, self._device, self.config.max_rows) if reason is None else None
        self._stats.graphs = f"no: {reason}" if reason else "yes"
        self.is_asleep = False
        self.reset()

    def reset(self) -> None:
        """An empty KV store and empty tables. Encoded images stay."""
        self.store.reset()
        self._problems.clear()
        self.tables = CacheTables(self.store, self.config.max_rows)

    def sleep(self) -> None:
        """Keeps no memory but the weights, and these on the host."""
        self.is_asleep = True  # first: an interrupt at any line leaves an engine that `wake` makes whole
        self.images.forget()
        del self.store, self.tables
        self._buffer, self._graphs = None, None
        if self._device.type == "cuda":
            self.model.network.to("cpu")
            torch.cuda.empty_cache()

    def wake(self) -> None:
        """Weights on the device and an empty store."""
        if self.is_asleep:
            self.model.network.to(self._device)
            self._open_store()

    def prefill(self, leaves: Sequence[Leaf]) -> None:
        """Computes prompts that have pages: keys and values, `logits` of the last token, `hidden` of the prompt's last token.

        The shared beginning of a prompt is left out. It may be computed by another prompt of the same call: in every layer all new keys
        and values are written before anyone attends. More tokens than `chunk_tokens` are computed in several calls of the model, which
        changes no bit: a beginning computed alone is the same as inside a longer prompt.
        """
        spans = [(leaf, span, image) for leaf in leaves for span, image in zip(leaf.image_spans, leaf.images, strict=True)]
        features = self.images.encode({image.digest: image for leaf, span, image in spans if sum(span) > leaf.num_shared})
        with self._stats.phase("prefill"):
            most_keys = KEYS_PER_TOKEN * self.config.chunk_tokens if self._reads_by_flash else math.inf
            for stretches in chunks(leaves, self.config.chunk_tokens, most_keys):
                self._prefill_chunk(stretches, features)

    def _prefill_chunk(self, stretches: Sequence[Stretch], features: dict[str, ImageFeatures]) -> None:
        lengths = np.asarray([len(stretch) for stretch in stretches], np.int64)
        starts = np.cumsum(lengths) - lengths
        batch = prefill_batch(stretches, starts, self.store, self.model.row_multiple)
        ended = [i for i, stretch in enumerate(stretches) if stretch.end == len(stretch.leaf.tokens)]
        rows, images = image_rows(stretches, starts, features)
        seen = SeenKeys.of(stretches) if self._reads_by_flash else None
        hidden, last = self._forward(batch, (starts + lengths - 1)[ended], rows, images, seen)
        self._stats.count(num_prefilled_tokens=int(lengths.sum()))
        for stretch, start in zip(stretches, starts.tolist(), strict=True):
            place = stretch.leaf.num_prompt_tokens - 1
            if stretch.begin <= place < stretch.end:
                stretch.leaf.hidden = hidden[start + place - stretch.begin].clone()
        if ended:
            with self._stats.phase("logits"):
                logits = self.model.logits(last)
            for i, of_leaf in zip(ended, logits, strict=True):
                stretches[i].leaf.logits = of_leaf

    def decode(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Tensor]]:
        """Feeds every row the tokens that it took last and yields chunks of rows with their next logits [chunk, V]."""
        # Passes with equally many pages side by side, so that attention takes each kind as one stretch of rows.
        rows = sorted(rows, key=lambda row: (len(row.answer.tokens) - row.num_fed, self.tables.own_lengths[row.slot]))
        with self._stats.phase("decode"):
            hidden = self._feed(rows)
        for part in _parts(len(rows), self._logit_rows):
            with self._stats.phase("logits"):
                logits = self.model.logits(hidden[part], buffer=self._logits_buffer(len(hidden[part])))
            yield rows[part], logits

    def _logits_buffer(self, num_rows: int) -> Tensor | None:
        """Memory for the logits of a step, taken once; elsewhere than on a CPU the allocator of torch keeps it anyway."""
        if self.model.device.type != "cpu":
            return None
        needed = num_rows + -num_rows % self.model.row_multiple
        if self._buffer is None or len(self._buffer) < needed:
            self._buffer = torch.empty(needed, self.model.vocab_size, dtype=self.model.dtype, device=self.model.device)
        return self._buffer

    def _feed(self, rows: Sequence[Row]) -> Tensor:
        """Hidden states [R, H] of the last tokens of rows."""
        tables, slots = self.tables, np.asarray([row.slot for row in rows], np.int32)
        fed = [row.answer.tokens[row.num_fed :] for row in rows]
        counts = np.asarray([len(tokens) for tokens in fed], np.int32)
        tables.reserve(list(rows), slots, counts)
        sequence = np.repeat(np.arange(len(rows), dtype=np.int32), counts)
        step = (np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
        offset = tables.own_lengths[slots][sequence] + step
        first = [row.job.leaf.next_position + row.num_fed - len(row.job.grammar.leading) for row in rows]
        positions = np.broadcast_to(np.asarray(first, np.int64)[sequence] + step, (3, len(sequence)))
        batch = host_batch(
            np.fromiter((token for tokens in fed for token in tokens), np.int64, len(sequence)),
            positions,
            PageTables(
                tables.leaf_pages,
                tables.leaf_lengths,
                tables.own_pages[slots],
                tables.leaf_of[slots],
                *padded_rows(sequence, offset + 1, self.model.row_multiple),
                pages=self.store,
            ),
            tables.own_pages[slots[sequence], offset // PAGE_TOKENS],
            offset % PAGE_TOKENS,
        )
        if self._graphs is not None and len(sequence) == len(rows):
            hidden, problem = self._graphs.run(batch)
            self._problems.append(problem)
            self._stats.count(num_replayed_steps=1)
            last = hidden[: len(rows)]
        else:  # forced tokens make batches of every shape
            _, last = self._forward(batch, np.cumsum(counts) - 1)
        tables.own_lengths[slots] += counts
        for row, tokens in zip(rows, fed, strict=True):
            row.num_fed += len(tokens)
        self._stats.count(num_fed_tokens=len(sequence))
        return last

    def first_logits(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Tensor]]:
        """Chunks of rows that have fed nothing yet, with the logits of their prompts [chunk, V]."""
        for part in _parts(len(rows), self._logit_rows):
            logits = [row.job.leaf.logits for row in rows[part]]
            yield rows[part], torch.stack([x for x in logits if x is not None])

    def _forward(
        self,
        batch: HostBatch,
        last: Array,
        rows: Array | None = None,
        images: Sequence[ImageFeatures] = (),
        seen: SeenKeys | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One flat batch through the language model: the hidden states of all rows, and those of the rows `last`.

        With `seen` flash-attn attends.
        """
        rows = np.empty(0, np.int64) if rows is None else rows
        of_seen = () if seen is None else seen.arrays
        *tensors, last_rows, of_images = to_device([*batch.arrays, *of_seen, last, rows], self.model.device)
        on_device = DeviceBatch.of(tensors[: len(batch.arrays)])
        flash = None if seen is None else FlashPrefill(self.store, on_device.slots, seen, tensors[len(batch.arrays) :])
        hidden, problem = self._compute(on_device, of_images, images, flash)
        self._problems.append(problem)
        return hidden, hidden[last_rows]

    def _compute(
        self,
        batch: DeviceBatch,
        rows: Tensor | None = None,
        images: Sequence[ImageFeatures] = (),
        flash: FlashPrefill | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What runs on the device: hidden states, and whether a table was wrong."""
        attention = flash or PagedAttention(self.store, batch.tables, batch.slots)
        hidden = self.model.forward(batch.tokens, batch.positions, attention, image_rows=rows, images=images)
        return hidden, attention.problem()

    def take_problems(self) -> list[Tensor]:
        """What calls of the model since the last time say of their tables, still on the device: for `attention.check`."""
        problems, self._problems = self._problems, []
        return problems


def _parts(num_rows: int, most: int) -> Iterator[slice]:
    size = max(PART_ROWS, most // PART_ROWS * PART_ROWS)
    return (slice(i, i + size) for i in range(0, num_rows, size))
