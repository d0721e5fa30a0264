"""Writes the keys and values of new tokens into pages of a KV store, in the layout that `shared_prefix_attention` reads.

Token n goes to offset `slots[n] % 16` of page `slots[n] // 16`; a negative slot drops it (padding). With t the offset and p the pair size
of `editscore_kernels.kv`, element d of head h lies, counted from the start of that page and head,

    plain:   K and V at t D + d
    packed:  K at (d // p * 16 + t) p + d % p        V at (t // p * D + d) p + t % p

Keys come as the model made them, after its rotary embedding. Slots must differ; the order of two writes to one place is not defined.
"""

from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _native, _native_attention, _native_cuda, _native_cuda_attention, _triton
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose
from editscore_kernels.kv import LAYOUTS, PAGE_TOKENS, Layout
from editscore_kernels.reference.append_kv import append_kv as _reference

__all__ = ["TABLE", "append_kv"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def append_kv(
    k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, *, layout: Layout = "plain", backend: BackendChoice = "auto"
) -> None:
    """Writes k and v [N, Hkv, D] into `k_pages` and `v_pages` [P, Hkv, 16, D] at `slots` [N] int64.

    Raises ValueError naming the argument (slots that are not on the CPU are not read back; kernels drop those outside the pages),
    BackendError when the named backend cannot run.
    """
    check_backend(backend)
    _check(k, v, k_pages, v_pages, slots, layout)
    torch.ops.editscore.append_kv.default(k.detach(), v.detach(), k_pages, v_pages, slots, layout, backend)


def _check(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str) -> None:
    if k_pages.ndim != 4 or k_pages.shape[2] != PAGE_TOKENS or not k_pages.is_contiguous() or k_pages.dtype not in DTYPES:
        raise ValueError(f"k_pages: expected contiguous pages [P, Hkv, 16, D], got {list(k_pages.shape)} of {k_pages.dtype}")
    if v_pages.shape != k_pages.shape or not v_pages.is_contiguous():
        raise ValueError(f"v_pages: expected contiguous pages {list(k_pages.shape)}, got {list(v_pages.shape)}")
    num_pages, num_heads, _, width = k_pages.shape
    for name, x in (("k", k), ("v", v)):
        if x.ndim != 3 or x.shape != (len(slots), num_heads, width):
            raise ValueError(f"{name}: expected [{len(slots)}, {num_heads}, {width}], got {list(x.shape)}")
    for name, x in (("k", k), ("v", v), ("v_pages", v_pages)):
        if x.dtype != k_pages.dtype or x.device != k_pages.device:
            raise ValueError(f"{name}: {x.dtype} on {x.device}, k_pages is {k_pages.dtype} on {k_pages.device}")
    if slots.ndim != 1 or slots.dtype != torch.int64 or slots.device != k.device:
        raise ValueError(f"slots: expected int64 [N] on {k.device}, got {list(slots.shape)} of {slots.dtype} on {slots.device}")
    if slots.device.type == "cpu" and len(slots) and int(slots.max()) >= num_pages * PAGE_TOKENS:
        raise ValueError(f"slots: {int(slots.max())} is outside the {num_pages} pages")
    if layout not in LAYOUTS:
        raise ValueError(f"layout: {layout!r} is not one of {', '.join(LAYOUTS)}")


TABLE = OpTable(
    "append_kv",
    (
        Candidate("cuda", _native_cuda.unavailable, _native_cuda_attention.append_kv_why_not, _native_cuda_attention.append_kv),
        _triton.candidate("append_kv"),
        Candidate("cpu", _native.unavailable, _native_attention.append_kv_why_not, _native_attention.append_kv),
        Candidate("reference", lambda: None, lambda *arguments: None, _reference),
    ),
)


def _run(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str, backend: str) -> None:
    arguments = (k, v, k_pages, v_pages, slots, layout)
    choose(TABLE, backend, *arguments).run(*arguments)


_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define(
    "append_kv(Tensor k, Tensor v, Tensor(a!) k_pages, Tensor(b!) v_pages, Tensor slots, str layout, str backend) -> ()",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("append_kv", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::append_kv", lambda *arguments: None, lib=_LIBRARY)
