"""Attention of many samples of few prompts: the keys and values of a prompt are read once for all of its samples.

A query row r belongs to a sequence (one sample of one prompt). Its path is the pages of its leaf (the full pages of the prompt) followed
by the first `row_lengths[r]` tokens of its sequence's own pages. With the K and V of that path and h' = h // (Hq / Hkv):

    out[r, h] = softmax(scale * q[r, h] . K[:, h']^T) V[:, h']          lse[r, h] = ln sum_t exp(scale * q[r, h] . K[t, h'])

A row that sees nothing, and a padding row, get out = 0 and lse = -inf.

**Canonical chunks.** A path is cut every 256 tokens of absolute position. Each chunk is reduced from nothing to (m, l, O): the maximum,
the sum of exp(s - m), and the values weighted by exp(s - m). Chunks are merged in order, in float32, whoever computed them:

    top = max(m, m_c),  l = l exp(m - top) + l_c exp(m_c - top),  O = O exp(m - top) + O_c exp(m_c - top),  m = top

So on one backend a row is bitwise the same alone, in any batch, in any order, however its path is divided between leaf and own pages,
and with any split over threads or blocks (Rabe and Staats, arXiv 2112.05682, for the merge; the fixed cuts are ours).

Rows of one sequence may stand at successive positions and see stretches of successive lengths; that is the prefill of a tree of prompts
and the appending of forced tokens.

No gradient: answers are sampled, and trainers recompute what they need.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from editscore_kernels import _native, _native_attention, _native_cuda, _native_cuda_attention, _triton
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose
from editscore_kernels.kv import LAYOUTS, PAGE_TOKENS, Layout
from editscore_kernels.page_tables import BAD_TABLE, OK, PageTables, TableTensors
from editscore_kernels.reference.shared_prefix_attention import CHUNK_TOKENS
from editscore_kernels.reference.shared_prefix_attention import shared_prefix_attention as _reference

__all__ = ["BAD_TABLE", "CHUNK_TOKENS", "OK", "TABLE", "Attended", "PreparedAttention", "shared_prefix_attention"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Attended(NamedTuple):
    """One entry per row."""

    out: Tensor  # [R, Hq, D] in q's dtype
    lse: Tensor  # [R, Hq] float32 (float64 for float64), natural logarithm
    status: Tensor  # [R] int32: OK 0; BAD_TABLE 1: changed on the device to name what is not there (nothing was read outside)


def shared_prefix_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    tables: PageTables | TableTensors,
    *,
    scale: float | None = None,
    layout: Layout = "plain",
    num_splits: int = 0,
    backend: BackendChoice = "auto",
) -> Attended:
    """Attention of q [R, Hq, D] over pages [P, Hkv, 16, D] of the same dtype (float32, bfloat16, float16; float64 on the reference).

    `scale` is 1 / sqrt(D) unless given. `layout` is that of the pages (`KVStore.layout`). `num_splits` cuts the path of a group into so
    many parts that are computed apart, 0 lets the backend choose; the result is the same bits.

    Raises ValueError naming the argument, BackendError when the named backend cannot run.
    """
    check_backend(backend)
    _check(q, k_pages, v_pages, layout, num_splits)
    tensors = _tensors(tables, q)
    scale = q.shape[2] ** -0.5 if scale is None else float(scale)
    arguments = (q.detach(), k_pages, v_pages, *tensors, scale, layout, num_splits, backend)
    return Attended(*torch.ops.editscore.shared_prefix_attention.default(*arguments))


class PreparedAttention:
    """The op for calls that differ in their numbers only, such as the layers of a model: plan once, run often.

    The first call checks everything and chooses the backend as `shared_prefix_attention` does; later ones check that q and the pages
    are like the first's. In C++ they do not pass through torch's dispatcher: a call takes 10 us beside its work instead of 27. Other
    backends are called through it, so that a whole step runs on fake tensors and under torch.compile.
    """

    def __init__(
        self,
        tables: PageTables | TableTensors,
        *,
        scale: float | None = None,
        layout: Layout = "plain",
        num_splits: int = 0,
        backend: BackendChoice = "auto",
    ) -> None:
        check_backend(backend)
        self._tables, self._scale, self._layout, self._num_splits, self._backend = tables, scale, layout, num_splits, backend
        self._like: tuple[Any, ...] | None = None
        self._run: Any = None

    def __call__(self, q: Tensor, k_pages: Tensor, v_pages: Tensor) -> Attended:
        """Arguments and result as those of `shared_prefix_attention`. Raises ValueError, also for what is unlike the first call."""
        like = (q.shape, q.dtype, q.device, k_pages.shape, k_pages.dtype, v_pages.shape, v_pages.dtype)
        if self._like is None:
            self._prepare(q, k_pages, v_pages)
            self._like = like
        elif like != self._like:
            raise ValueError(f"q: prepared for {list(self._like[0])} of {self._like[1]} over pages {list(self._like[3])}, got other ones")
        return Attended(*self._run(q.detach(), k_pages, v_pages))

    def _prepare(self, q: Tensor, k_pages: Tensor, v_pages: Tensor) -> None:
        _check(q, k_pages, v_pages, self._layout, self._num_splits)
        tables = _tensors(self._tables, q)
        scale = q.shape[2] ** -0.5 if self._scale is None else float(self._scale)
        rest = (tables, scale, self._layout, self._num_splits)
        chosen = choose(TABLE, self._backend, q, k_pages, v_pages, *rest)
        if chosen.backend == "cpu":
            self._run = _native_attention.BoundAttention(tables, scale, self._num_splits)
        else:
            op = torch.ops.editscore.shared_prefix_attention.default
            self._run = lambda *tensors: op(*tensors, *tables, scale, self._layout, self._num_splits, chosen.backend)


def _tensors(tables: PageTables | TableTensors, q: Tensor) -> TableTensors:
    tensors = tables.tensors(q.device) if isinstance(tables, PageTables) else _checked(tables, q.device)
    if tensors.row_seq.shape[0] != q.shape[0]:
        raise ValueError(f"tables: {len(tensors.row_seq)} rows for {len(q)} of q")
    return tensors


def _checked(tables: TableTensors, device: torch.device) -> TableTensors:
    for name, table in zip(tables._fields, tables, strict=True):
        if table.dtype != torch.int32 or table.device != device:
            raise ValueError(f"{name}: expected int32 on {device}, got {table.dtype} on {table.device}")
    return tables


def _check(q: Tensor, k_pages: Tensor, v_pages: Tensor, layout: str, num_splits: int) -> None:
    if q.ndim != 3 or q.dtype not in DTYPES:
        raise ValueError(f"q: expected [R, Hq, D] of {', '.join(map(str, DTYPES))}, got {list(q.shape)} of {q.dtype}")
    if k_pages.ndim != 4 or k_pages.shape[2:] != (PAGE_TOKENS, q.shape[2]) or not k_pages.is_contiguous():
        raise ValueError(f"k_pages: expected contiguous pages [P, Hkv, 16, {q.shape[2]}], got {list(k_pages.shape)}")
    if v_pages.shape != k_pages.shape or not v_pages.is_contiguous():
        raise ValueError(f"v_pages: expected contiguous pages {list(k_pages.shape)}, got {list(v_pages.shape)}")
    for name, pages in (("k_pages", k_pages), ("v_pages", v_pages)):
        if pages.dtype != q.dtype or pages.device != q.device:
            raise ValueError(f"{name}: {pages.dtype} on {pages.device}, q is {q.dtype} on {q.device}")
    if not k_pages.shape[1] or q.shape[1] % k_pages.shape[1]:
        raise ValueError(f"q: {q.shape[1]} heads are no multiple of the {k_pages.shape[1]} heads of the pages")
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r} is not one of {', '.join(LAYOUTS)}")
    if num_splits < 0:
        raise ValueError(f"num_splits: {num_splits} is negative")


def _run_reference(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, tables: TableTensors, scale: float, layout: str, num_splits: int
) -> Attended:
    return Attended(*_reference(q, k_pages, v_pages, tables, scale, layout))


def _run_native(*arguments: Any) -> Attended:
    return Attended(*_native_attention.shared_prefix_attention(*arguments))


def _run_cuda(*arguments: Any) -> Attended:
    return Attended(*_native_cuda_attention.shared_prefix_attention(*arguments))


TABLE = OpTable(
    "shared_prefix_attention",
    (
        Candidate("cuda", _native_cuda.unavailable, _native_cuda_attention.shared_prefix_attention_why_not, _run_cuda),
        _triton.candidate("shared_prefix_attention"),
        Candidate("cpu", _native.unavailable, _native_attention.shared_prefix_attention_why_not, _run_native),
        Candidate("reference", lambda: None, lambda *arguments: None, _run_reference),
    ),
)


def _run(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    leaf_pages: Tensor,
    leaf_lengths: Tensor,
    own_pages: Tensor,
    seq_leaf: Tensor,
    row_seq: Tensor,
    row_lengths: Tensor,
    group_rows: Tensor,
    group_starts: Tensor,
    scale: float,
    layout: str,
    num_splits: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    tables = TableTensors(leaf_pages, leaf_lengths, own_pages, seq_leaf, row_seq, row_lengths, group_rows, group_starts)
    arguments = (q, k_pages, v_pages, tables, scale, layout, num_splits)
    return tuple(choose(TABLE, backend, *arguments).run(*arguments))


def _fake(q: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    real = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=real), q.new_empty(q.shape[:1], dtype=torch.int32)


_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define(
    "shared_prefix_attention(Tensor q, Tensor k_pages, Tensor v_pages, Tensor leaf_pages, Tensor leaf_lengths, Tensor own_pages, "
    "Tensor seq_leaf, Tensor row_seq, Tensor row_lengths, Tensor group_rows, Tensor group_starts, float scale, str layout, "
    "int num_splits, str backend) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("shared_prefix_attention", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::shared_prefix_attention", _fake, lib=_LIBRARY)
