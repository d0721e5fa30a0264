"""One case of `bench_shared_prefix_attention`: the same numbers in pages for the op and in dense tensors for the peers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from editscore_kernels import instruction_sets
from editscore_kernels.kv import PAGE_TOKENS, KVStore, pack_keys, pack_values
from editscore_kernels.page_tables import PageTables
from torch import Tensor

from benchmarks.peers.attention import DenseCase

NUM_KV_HEADS, HEAD_DIM, SUFFIX = 4, 128, 64
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Shape:
    """B prompts of P tokens, K samples of each with 64 tokens of their own, G query heads to each of the 4 key heads."""

    num_prompts: int
    num_samples: int
    group: int
    prefix: int
    dtype: str
    instruction_set: str  # "" off the CPU

    @property
    def label(self) -> str:
        """How the case is named in the results."""
        sizes = f"B={self.num_prompts} K={self.num_samples} G={self.group} P={self.prefix} S={SUFFIX}"
        return " ".join(filter(None, (self.dtype, self.instruction_set, sizes)))

    @property
    def num_rows(self) -> int:
        """Query rows R = B K."""
        return self.num_prompts * self.num_samples

    @property
    def flops(self) -> float:
        """Floating-point operations of both matrix products."""
        return 4.0 * self.num_rows * NUM_KV_HEADS * self.group * HEAD_DIM * (self.prefix + SUFFIX)

    @property
    def unique_bytes(self) -> int:
        """Bytes of keys and values when each prompt is read once."""
        tokens = self.num_prompts * (self.prefix + self.num_samples * SUFFIX)
        return 2 * tokens * NUM_KV_HEADS * HEAD_DIM * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Inputs:
    """What the op takes, and the same in dense tensors. `unshared` names the same pages with a leaf for every sample."""

    q: Tensor  # [R, Hq, D]
    store: KVStore
    shared: PageTables
    unshared: PageTables
    dense: DenseCase


def make_inputs(shape: Shape, device: str) -> Inputs:
    """Normal random numbers. Pages are taken in the order of the paths, as the engine does with an empty store."""
    generator = torch.Generator(device=device).manual_seed(0)
    prompts, samples, dtype = shape.num_prompts, shape.num_samples, DTYPES[shape.dtype]

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, HEAD_DIM, generator=generator, device=device).to(dtype)

    prefix = [normal(prompts, NUM_KV_HEADS, shape.prefix) for _ in "kv"]
    suffix = [normal(prompts, samples, NUM_KV_HEADS, SUFFIX) for _ in "kv"]
    q = normal(prompts, samples, NUM_KV_HEADS, shape.group)
    leaf_width, own_width = shape.prefix // PAGE_TOKENS, SUFFIX // PAGE_TOKENS
    num_pages = 1 + prompts * leaf_width + shape.num_rows * own_width
    store = KVStore(1, NUM_KV_HEADS, HEAD_DIM, num_pages, dtype, torch.device(device))
    leaf_pages = np.sort(store.allocate(prompts * leaf_width)).reshape(prompts, leaf_width)
    own_pages = np.sort(store.allocate(shape.num_rows * own_width)).reshape(shape.num_rows, own_width)
    for of_prefix, of_suffix, pages, pack in zip(prefix, suffix, (store.k[0], store.v[0]), (pack_keys, pack_values), strict=True):
        for ids, x in ((leaf_pages, of_prefix), (own_pages, of_suffix.flatten(0, 1))):
            paged = x.unflatten(2, (-1, PAGE_TOKENS)).transpose(1, 2).flatten(0, 1)  # [pages, Hkv, 16, D]
            pages[torch.from_numpy(ids.ravel().astype(np.int64)).to(device)] = pack(paged) if store.layout == "packed" else paged
    dense = DenseCase(q, prefix[0], prefix[1], suffix[0], suffix[1], HEAD_DIM**-0.5)
    tables = [_tables(store, pages, own_pages) for pages in (leaf_pages, leaf_pages.repeat(samples, 0))]
    return Inputs(q.flatten(2, 3).flatten(0, 1), store, tables[0], tables[1], dense)


def _tables(store: KVStore, leaf_pages: np.ndarray, own_pages: np.ndarray) -> PageTables:
    num_leaves, num_rows = len(leaf_pages), len(own_pages)
    rows = np.arange(num_rows, dtype=np.int32)
    lengths = np.full(num_leaves, leaf_pages.shape[1] * PAGE_TOKENS, np.int32)
    row_lengths = np.full(num_rows, SUFFIX, np.int32)
    return PageTables(leaf_pages, lengths, own_pages, rows // (num_rows // num_leaves), rows, row_lengths, store)


# B, K, G, prefix. `quick` is a corner that touches every target; a GPU is asked about decoding at the sizes of a 7B judge.
GRIDS = {
    "cpu": ((1, 4, 16), (1, 4, 8, 16), (3, 4, 7), (512, 1024)),
    "quick": ((1, 4), (4,), (7,), (512,)),
    "cuda": ((1, 4, 16, 24, 288), (4, 8, 16), (4, 7), (1024,)),
}


def shapes(dtypes: list[str], sets: list[str], grid: str) -> list[Shape]:
    """Every case of a grid; 16-bit types only on the best of the instruction sets."""
    prompts, samples, groups, prefixes = GRIDS[grid]
    kinds = [(dtype, name) for name in sets for dtype in dtypes if dtype == "fp32" or name in ("", instruction_sets()[-1])]
    cases = itertools.product(prompts, samples, groups, prefixes)
    return [Shape(b, k, g, prefix, dtype, name) for (b, k, g, prefix) in cases for dtype, name in kinds]
