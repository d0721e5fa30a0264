"""The tensors of a step: images through the vision tower, prompts into the KV store, passes one token further.

Every call of the model is one flat batch over all requests; there is no loop over requests around a model call.
Legend: N tokens of a flat batch (a multiple of 16), R rows (passes), V vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from editscore_kernels.kv import NULL_PAGE, PAGE_TOKENS, KVStore
from editscore_kernels.page_tables import PageTables
from torch import Tensor

from editscore.engine.attention import PagedAttention
from editscore.engine.config import EngineConfig
from editscore.engine.sequences import Int32s, Leaf, Row
from editscore.engine.tables import CacheTables
from editscore.models.vlm import ImageFeatures, VisionLanguageModel
from editscore.types import Image

ROW_MULTIPLE = 16
# Logits worked on at a time: 256 MB of float32.
MAX_LOGITS = 1 << 26


class Runner:
    """The model, the KV store and the encoded images of one engine."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig) -> None:
        self.model, self.config = model, config
        element = torch.empty((), dtype=model.dtype).element_size()
        page_bytes = 2 * model.num_layers * model.num_kv_heads * PAGE_TOKENS * model.head_dim * element
        num_pages = max(2, config.kv_memory_mb * 2**20 // page_bytes)
        self.store = KVStore(model.num_layers, model.num_kv_heads, model.head_dim, num_pages, model.dtype, model.device)
        self.reset()
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()
        self._feature_bytes = 0
        self.num_encoded_images = 0
        self.num_prefilled_tokens = 0

    def reset(self) -> None:
        """An empty KV store and empty tables. Encoded images stay."""
        self.store.reset()
        self.tables = CacheTables(self.store, self.config.max_rows)

    def prefill(self, leaves: Sequence[Leaf]) -> None:
        """Computes prompts that have pages: keys and values, `logits` of the last token, `hidden` of the prompt's last token.

        The shared beginning of a prompt is left out. It may be computed by another prompt of the same call: in every layer all new keys
        and values are written before anyone attends.
        """
        spans = [(leaf, span, image) for leaf in leaves for span, image in zip(leaf.image_spans, leaf.images, strict=True)]
        spans = [(leaf, span, image) for leaf, span, image in spans if sum(span) > leaf.num_shared]
        features = self._encode({image.digest: image for _, _, image in spans})
        shared = np.asarray([leaf.num_shared for leaf in leaves], np.int64)
        lengths = np.asarray([len(leaf.tokens) for leaf in leaves], np.int64) - shared
        starts = np.cumsum(lengths) - lengths
        flat_start = {id(leaf): start - leaf.num_shared for leaf, start in zip(leaves, starts.tolist(), strict=True)}
        own_pages = _table([leaf.pages[leaf.num_shared // PAGE_TOKENS :] for leaf in leaves])
        sequence = np.repeat(np.arange(len(leaves), dtype=np.int32), lengths)
        offset = (np.arange(len(sequence)) - starts[sequence]).astype(np.int32)
        tables = PageTables(
            _table([leaf.pages[: leaf.num_shared // PAGE_TOKENS] for leaf in leaves]),
            shared.astype(np.int32),
            own_pages,
            np.arange(len(leaves), dtype=np.int32),
            *_pad(sequence, offset + 1),
            pages=self.store,
        )
        kept = [(leaf, max(first, leaf.num_shared), first, n, image) for leaf, (first, n), image in spans]
        rows = [flat_start[id(leaf)] + np.arange(begin, first + n) for leaf, begin, first, n, _ in kept]
        hidden = self._forward(
            np.concatenate([leaf.tokens[leaf.num_shared :] for leaf in leaves]),
            np.concatenate([leaf.positions[:, leaf.num_shared :] for leaf in leaves], axis=1),
            tables,
            own_pages[sequence, offset // PAGE_TOKENS],
            offset % PAGE_TOKENS,
            image_rows=np.concatenate([*rows, np.empty(0, np.int64)]),
            images=[features[image.digest].since(begin - first) for _, begin, first, _, image in kept],
        )
        logits = self.model.logits(hidden[starts + lengths - 1])
        for i, leaf in enumerate(leaves):
            leaf.logits = logits[i]
            leaf.hidden = hidden[starts[i] - shared[i] + leaf.num_prompt_tokens - 1].clone()
        self.num_prefilled_tokens += len(sequence)

    def decode(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Tensor]]:
        """Feeds every row the tokens that it took last and yields chunks of rows with their next logits [chunk, V]."""
        # Passes with equally many pages side by side, so that attention takes each kind as one stretch of rows.
        rows = sorted(rows, key=lambda row: (len(row.answer.tokens) - row.num_fed, self.tables.own_lengths[row.slot]))
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
                *_pad(sequence, offset + 1),
                pages=self.store,
            ),
            tables.own_pages[slots[sequence], offset // PAGE_TOKENS],
            offset % PAGE_TOKENS,
        )
        tables.own_lengths[slots] += counts
        for row, tokens in zip(rows, fed, strict=True):
            row.num_fed += len(tokens)
        hidden = hidden[np.cumsum(counts) - 1]
        for part in _parts(len(rows), self.model.vocab_size):
            yield rows[part], self.model.logits(hidden[part])

    def first_logits(self, rows: Sequence[Row]) -> Iterator[tuple[Sequence[Row], Tensor]]:
        """Chunks of rows that have fed nothing yet, with the logits of their prompts [chunk, V]."""
        for part in _parts(len(rows), self.model.vocab_size):
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
        num_tokens, padding = len(tokens), -len(tokens) % ROW_MULTIPLE
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

    def _encode(self, images: dict[str, Image]) -> dict[str, ImageFeatures]:
        """Features of images by digest; each image is encoded once while its features fit into the cache."""
        found = {digest: self._features[digest] for digest in images if digest in self._features}
        for digest in found:
            self._features.move_to_end(digest)
        missing = {digest: image for digest, image in images.items() if digest not in found}
        for batch in self._batches(missing):
            prepared = [self.model.pixel_rule.prepare(images[digest]) for digest in batch]
            found.update(zip(batch, self.model.encode_images(prepared), strict=True))
            self.num_encoded_images += len(batch)
        for digest in missing:
            self._features[digest] = found[digest]
            self._feature_bytes += found[digest].num_bytes
        while self._feature_bytes > self.config.image_cache_mb * 2**20:
            self._feature_bytes -= self._features.popitem(last=False)[1].num_bytes
        return found

    def _batches(self, images: dict[str, Image]) -> Iterable[list[str]]:
        batch: list[str] = []
        num_patches = 0
        for digest, image in images.items():
            rows, columns = self.model.pixel_rule.grid(image)
            if batch and num_patches + rows * columns > self.config.image_patches:
                yield batch
                batch, num_patches = [], 0
            batch.append(digest)
            num_patches += rows * columns
        if batch:
            yield batch


def _table(pages: Sequence[Int32s]) -> Int32s:
    """Page ids row by row, filled up with the null page."""
    table = np.full((len(pages), max(1, max(map(len, pages), default=1))), NULL_PAGE, np.int32)
    for i, row in enumerate(pages):
        table[i, : len(row)] = row
    return table


def _pad(sequence: Int32s, lengths: Int32s) -> tuple[Int32s, Int32s]:
    """`row_seq` and `row_lengths` with padding rows up to a multiple of 16."""
    padding = -len(sequence) % ROW_MULTIPLE
    return (
        np.pad(sequence, (0, padding), constant_values=-1).astype(np.int32),
        np.pad(lengths, (0, padding), constant_values=1).astype(np.int32),
    )


def _parts(num_rows: int, vocab_size: int) -> Iterator[slice]:
    size = max(ROW_MULTIPLE, MAX_LOGITS // vocab_size // ROW_MULTIPLE * ROW_MULTIPLE)
    return (slice(i, i + size) for i in range(0, num_rows, size))
