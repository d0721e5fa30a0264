"""The tensors of a step: prompts into the KV store, passes one token further.

Every call of the model is one flat batch over all requests; there is no loop over requests around a model call.
Legend: N tokens of a flat batch (a multiple of the model's `row_multiple`), R rows (passes), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from editscore_kernels.kv import NULL_PAGE, PAGE_TOKENS, KVStore
from editscore_kernels.page_tables import PageTables
from torch import Tensor

from editscore.engine.attention import PagedAttention
from editscore.engine.config import EngineConfig
from editscore.engine.images import ImageEncoder
from editscore.engine.sequences import Int32s, Leaf, Row
from editscore.engine.stats import StatsRecorder
from editscore.engine.tables import CacheTables
from editscore.models.vlm import ImageFeatures, VisionLanguageModel

# Rows whose logits are computed together come in multiples of this, which is one of every model's `row_multiple`.
PART_ROWS = 16


@dataclass(frozen=True)
class Stretch:
    """Tokens [begin, end) of a prompt, computed in one call of the model."""

    leaf: Leaf
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class Runner:
    """The model, the KV store and the encoded images of one engine."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig, stats: StatsRecorder) -> None:
        self.model, self.config, self._stats = model, config, stats
        element = model.dtype.itemsize
        page_bytes = 2 * model.num_layers * model.num_kv_heads * PAGE_TOKENS * model.head_dim * element
        self.num_pages = max(2, config.kv_memory_mb * 2**20 // page_bytes)
        self._logit_rows = config.logits_mb * 2**20 // (element * model.vocab_size)
        self._device = model.device
        self.images = ImageEncoder(model, config, stats)
        self._open_store()

    def _open_store(self) -> None:
        model = self.model
        self.store = KVStore(model.num_layers, model.num_kv_heads, model.head_dim, self.num_pages, model.dtype, model.device)
        self._buffer: Tensor | None = None
        self.is_asleep = False
        self.reset()

    def reset(self) -> None:
        """An empty KV store and empty tables. Encoded images stay."""
        self.store.reset()
        self.tables = CacheTables(self.store, self.config.max_rows)

    def sleep(self) -> None:
        """Keeps no memory but the weights, and these on the host."""
        self.images.forget()
        del self.store, self.tables
        self._buffer, self.is_asleep = None, True
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
            for stretches in _chunks(leaves, self.config.chunk_tokens):
                self._prefill_chunk(stretches, features)

    def _prefill_chunk(self, stretches: Sequence[Stretch], features: dict[str, ImageFeatures]) -> None:
        lengths = np.asarray([len(stretch) for stretch in stretches], np.int64)
        starts = np.cumsum(lengths) - lengths
        sequence = np.repeat(np.arange(len(stretches), dtype=np.int32), lengths)
        place = np.asarray([stretch.begin for stretch in stretches])[sequence] + np.arange(len(sequence)) - starts[sequence]
        shared = np.asarray([stretch.leaf.num_shared for stretch in stretches], np.int32)
        offset = (place - shared[sequence]).astype(np.int32)
        own_pages = _table([stretch.leaf.pages[stretch.leaf.num_shared // PAGE_TOKENS :] for stretch in stretches])
        tables = PageTables(
            _table([stretch.leaf.pages[: stretch.leaf.num_shared // PAGE_TOKENS] for stretch in stretches]),
            shared,
            own_pages,
            np.arange(len(stretches), dtype=np.int32),
            *self._pad(sequence, offset + 1),
            pages=self.store,
        )
        image_rows, images = _image_rows(stretches, starts, features)
        hidden = self._forward(
            np.concatenate([stretch.leaf.tokens[stretch.begin : stretch.end] for stretch in stretches]),
            np.concatenate([stretch.leaf.positions[:, stretch.begin : stretch.end] for stretch in stretches], axis=1),
            tables,
            own_pages[sequence, offset // PAGE_TOKENS],
            offset % PAGE_TOKENS,
            image_rows=image_rows,
            images=images,
        )
        self._stats.count(num_prefilled_tokens=len(sequence))
        for stretch, start in zip(stretches, starts.tolist(), strict=True):
            last = stretch.leaf.num_prompt_tokens - 1
            if stretch.begin <= last < stretch.end:
                stretch.leaf.hidden = hidden[start + last - stretch.begin].clone()
        ended = [(i, stretch.leaf) for i, stretch in enumerate(stretches) if stretch.end == len(stretch.leaf.tokens)]
        if ended:
            with self._stats.phase("logits"):
                logits = self.model.logits(hidden[starts + lengths - 1][[i for i, _ in ended]])
            for (_, leaf), of_leaf in zip(ended, logits, strict=True):
                leaf.logits = of_leaf

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

    def _logits_buffer(self, num_rows: int) -> Tensor:
        """Memory for the logits of a step, taken once."""
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
        hidden = self._forward(
            np.fromiter((token for tokens in fed for token in tokens), np.int64, len(sequence)),
            positions,
            PageTables(
                tables.leaf_pages,
                tables.leaf_lengths,
                tables.own_pages[slots],
                tables.leaf_of[slots],
                *self._pad(sequence, offset + 1),
                pages=self.store,
            ),
            tables.own_pages[slots[sequence], offset // PAGE_TOKENS],
            offset % PAGE_TOKENS,
        )
        tables.own_lengths[slots] += counts
        for row, tokens in zip(rows, fed, strict=True):
            row.num_fed += len(tokens)
        self._stats.count(num_fed_tokens=len(sequence))
        return hidden[np.cumsum(counts) - 1]

    def first_logits(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Tensor]]:
        """Chunks of rows that have fed nothing yet, with the logits of their prompts [chunk, V]."""
        for part in _parts(len(rows), self._logit_rows):
            logits = [row.job.leaf.logits for row in rows[part]]
            yield rows[part], torch.stack([x for x in logits if x is not None])

    def _forward(
        self,
        tokens: np.ndarray,
        positions: np.ndarray,
        tables: PageTables,
        pages: Int32s,
        offsets: Int32s,
        *,
        image_rows: np.ndarray | None = None,
        images: Sequence[ImageFeatures] = (),
    ) -> Tensor:
        """One flat batch through the language model; returns the hidden states of its real tokens."""
        num_tokens, padding = len(tokens), -len(tokens) % self.model.row_multiple
        # Padding tokens are written nowhere, attend to nothing and are cut off again.
        slots = self.store.slots(np.pad(pages, (0, padding)), np.pad(offsets, (0, padding)))
        device = self.model.device
        attention = PagedAttention(self.store, tables, slots)
        hidden = self.model.forward(
            torch.from_numpy(np.pad(tokens, (0, padding))).to(device),
            torch.from_numpy(np.pad(positions, ((0, 0), (0, padding)))).to(device),
            attention,
            image_rows=None if image_rows is None else torch.from_numpy(image_rows).to(device),
            images=images,
        )
        attention.check()
        return hidden[:num_tokens]

    def _pad(self, sequence: Int32s, lengths: Int32s) -> tuple[Int32s, Int32s]:
        """`row_seq` and `row_lengths` with padding rows."""
        padding = -len(sequence) % self.model.row_multiple
        return (
            np.pad(sequence, (0, padding), constant_values=-1).astype(np.int32),
            np.pad(lengths, (0, padding), constant_values=1).astype(np.int32),
        )


def _chunks(leaves: Sequence[Leaf], chunk_tokens: int) -> Iterator[list[Stretch]]:
    """What is not shared of prompts, in their order, as stretches for calls of at most `chunk_tokens` tokens."""
    chunk: list[Stretch] = []
    room = chunk_tokens
    for leaf in leaves:
        begin = leaf.num_shared
        while begin < len(leaf.tokens):
            end = min(len(leaf.tokens), begin + room)
            chunk.append(Stretch(leaf, begin, end))
            room -= end - begin
            begin = end
            if not room:
                yield chunk
                chunk, room = [], chunk_tokens
    if chunk:
        yield chunk


def _image_rows(
    stretches: Sequence[Stretch], starts: np.ndarray, features: dict[str, ImageFeatures]
) -> tuple[np.ndarray, list[ImageFeatures]]:
    """Which rows of a call hold image tokens, and the features of these tokens, image by image."""
    rows: list[np.ndarray] = [np.empty(0, np.int64)]
    images: list[ImageFeatures] = []
    for stretch, start in zip(stretches, starts.tolist(), strict=True):
        for (first, length), image in zip(stretch.leaf.image_spans, stretch.leaf.images, strict=True):
            begin, end = max(first, stretch.begin), min(first + length, stretch.end)
            if begin < end:
                rows.append(np.arange(begin, end) - stretch.begin + start)
                images.append(features[image.digest].part(begin - first, end - first))
    return np.concatenate(rows), images


def _table(pages: Sequence[Int32s]) -> Int32s:
    """Page ids row by row, filled up with the null page."""
    table = np.full((len(pages), max(1, max(map(len, pages), default=1))), NULL_PAGE, np.int32)
    for i, row in enumerate(pages):
        table[i, : len(row)] = row
    return table


def _parts(num_rows: int, most: int) -> Iterator[slice]:
    size = max(PART_ROWS, most // PART_ROWS * PART_ROWS)
    return (slice(i, i + size) for i in range(0, num_rows, size))
