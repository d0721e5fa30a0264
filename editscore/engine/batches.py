"""One call of the language model: a flat batch of tokens of many sequences, and the tables of pages that its rows attend over.

Legend: N tokens of the batch, padding included; the tables are those of `editscore_kernels.page_tables`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from editscore_kernels.kv import NULL_PAGE, PAGE_TOKENS, KVStore, slot_numbers
from editscore_kernels.page_tables import PageTables, TableTensors
from torch import Tensor

from editscore.engine.sequences import Int32s, Leaf
from editscore.engine.transfer import Array
from editscore.models.vlm import ImageFeatures


@dataclass(frozen=True)
class Stretch:
    """Tokens [begin, end) of a prompt, computed in one call of the model."""

    leaf: Leaf
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class HostBatch(NamedTuple):
    """A batch as the host makes it."""

    tokens: Array  # [N] int64
    positions: Array  # [3, N] int64
    slots: Array  # [N] int64: where keys and values go, -1 for padding
    tables: tuple[Int32s, ...]  # in the order of TableTensors

    @property
    def arrays(self) -> tuple[Array, ...]:
        """All of them, flat; `DeviceBatch.of` takes them apart again."""
        return (self.tokens, self.positions, self.slots, *self.tables)


class DeviceBatch(NamedTuple):
    """The same as tensors on the model's device."""

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    tables: TableTensors

    @staticmethod
    def of(tensors: Sequence[Tensor]) -> DeviceBatch:
        """The batch of tensors in the order of `HostBatch.arrays`."""
        return DeviceBatch(tensors[0], tensors[1], tensors[2], TableTensors(*tensors[3:]))


def host_batch(tokens: Array, positions: Array, tables: PageTables, pages: Int32s, offsets: Int32s) -> HostBatch:
    """A batch whose token n is written to `offsets[n]` of `pages[n]`; padded to the rows of the tables.

    Padding tokens are written nowhere, attend to nothing and are cut off again.
    """
    padding = len(tables.row_seq) - len(tokens)
    slots = slot_numbers(np.pad(pages, (0, padding)), np.pad(offsets, (0, padding)))
    return HostBatch(np.pad(tokens, (0, padding)), np.pad(positions, ((0, 0), (0, padding))), slots, tables.arrays)


def padded_rows(sequence: Int32s, lengths: Int32s, multiple: int) -> tuple[Int32s, Int32s]:
    """`row_seq` and `row_lengths` of a table with padding rows up to a multiple."""
    padding = -len(sequence) % multiple
    return (
        np.pad(sequence, (0, padding), constant_values=-1).astype(np.int32),
        np.pad(lengths, (0, padding), constant_values=1).astype(np.int32),
    )


def page_table(pages: Sequence[Int32s]) -> Int32s:
    """Page ids row by row, filled up with the null page."""
    table = np.full((len(pages), max(1, max(map(len, pages), default=1))), NULL_PAGE, np.int32)
    for i, row in enumerate(pages):
        table[i, : len(row)] = row
    return table


def chunks(leaves: Sequence[Leaf], chunk_tokens: int, most_keys: float = math.inf) -> Iterator[list[Stretch]]:
    """What is not shared of prompts, in their order, as stretches for calls of at most `chunk_tokens` tokens.

    The stretches of a call see at most `most_keys` keys together, unless a single one sees more.
    """
    chunk: list[Stretch] = []
    room, keys = chunk_tokens, 0
    for leaf in leaves:
        begin = leaf.num_shared
        while begin < len(leaf.tokens):
            if chunk and (not room or keys + min(len(leaf.tokens), begin + room) > most_keys):
                yield chunk
                chunk, room, keys = [], chunk_tokens, 0
            end = min(len(leaf.tokens), begin + room)
            chunk.append(Stretch(leaf, begin, end))
            room, keys, begin = room - (end - begin), keys + end, end
    if chunk:
        yield chunk


def prefill_batch(stretches: Sequence[Stretch], starts: Array, pages: KVStore, row_multiple: int) -> HostBatch:
    """The batch of stretches of prompts, of which the stretch i begins at row `starts[i]`."""
    sequence = np.repeat(np.arange(len(stretches), dtype=np.int32), [len(stretch) for stretch in stretches])
    place = np.asarray([stretch.begin for stretch in stretches])[sequence] + np.arange(len(sequence)) - starts[sequence]
    shared = np.asarray([stretch.leaf.num_shared for stretch in stretches], np.int32)
    offset = (place - shared[sequence]).astype(np.int32)
    own_pages = page_table([stretch.leaf.pages[stretch.leaf.num_shared // PAGE_TOKENS :] for stretch in stretches])
    tables = PageTables(
        page_table([stretch.leaf.pages[: stretch.leaf.num_shared // PAGE_TOKENS] for stretch in stretches]),
        shared,
        own_pages,
        np.arange(len(stretches), dtype=np.int32),
        *padded_rows(sequence, offset + 1, row_multiple),
        pages=pages,
    )
    return host_batch(
        np.concatenate([stretch.leaf.tokens[stretch.begin : stretch.end] for stretch in stretches]),
        np.concatenate([stretch.leaf.positions[:, stretch.begin : stretch.end] for stretch in stretches], axis=1),
        tables,
        own_pages[sequence, offset // PAGE_TOKENS],
        offset % PAGE_TOKENS,
    )


def image_rows(stretches: Sequence[Stretch], starts: Array, features: dict[str, ImageFeatures]) -> tuple[Array, list[ImageFeatures]]:
    """Which rows of a call hold image tokens, and the features of these tokens, image by image."""
    rows: list[Array] = [np.empty(0, np.int64)]
    images: list[ImageFeatures] = []
    for stretch, start in zip(stretches, starts.tolist(), strict=True):
        for (first, length), image in zip(stretch.leaf.image_spans, stretch.leaf.images, strict=True):
            begin, end = max(first, stretch.begin), min(first + length, stretch.end)
            if begin < end:
                rows.append(np.arange(begin, end) - stretch.begin + start)
                images.append(features[image.digest].part(begin - first, end - first))
    return np.concatenate(rows), images
