"""The rotary embedding of queries and keys: the two halves of a head rotated against each other, pair by pair, by the angles of its token.

    out[n, h, d] = x[n, h, d] cos[n, d] - x[n, h, d + D/2] sin[n, d]      for d < D/2
    out[n, h, d] = x[n, h, d] cos[n, d] + x[n, h, d - D/2] sin[n, d]      for d >= D/2

q and k are rotated in one pass, which takes one call instead of a dozen.

**Rounding.** Each product and the sum are rounded to the dtype of x, cos and sin, as torch rounds them in transformers' classes (which hand
cos and sin over in the model's dtype); there is no fused multiply-add. So the C++ has the reference's bits, on any number of threads, with
any strides and from any instruction set (but for which NaN a NaN is).

No gradient: answers are sampled, and trainers recompute what they need. C++ and the reference only: on a GPU it is torch's own functions,
element by element.
"""

from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _native, _native_layers
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose
from editscore_kernels.reference.rotary_embedding import rotary_embedding as _reference

__all__ = ["TABLE", "rotary_embedding"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def rotary_embedding(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, backend: BackendChoice = "auto") -> tuple[Tensor, Tensor]:
    """q [N, Hq, D] and k [N, Hkv, D] rotated by cos and sin [N, D], of one dtype (float32, bfloat16, float16; float64 on the reference).

    Any strides; results are contiguous. Raises ValueError naming the argument, BackendError when the named backend cannot run.
    """
    check_backend(backend)
    if q.ndim != 3 or q.dtype not in DTYPES or q.shape[2] % 2:
        raise ValueError(f"q: expected [N, Hq, D] of {', '.join(map(str, DTYPES))}, D even, got {list(q.shape)} of {q.dtype}")
    if k.ndim != 3 or k.shape[0] != q.shape[0] or k.shape[2] != q.shape[2]:
        raise ValueError(f"k: expected [{q.shape[0]}, Hkv, {q.shape[2]}], got {list(k.shape)}")
    for name, x in (("cos", cos), ("sin", sin)):
        if x.shape != (q.shape[0], q.shape[2]):
            raise ValueError(f"{name}: expected [{q.shape[0]}, {q.shape[2]}], got {list(x.shape)}")
    for name, x in (("k", k), ("cos", cos), ("sin", sin)):
        if x.dtype != q.dtype or x.device != q.device:
            raise ValueError(f"{name}: {x.dtype} on {x.device}, q is {q.dtype} on {q.device}")
    arguments = (q.detach(), k.detach(), cos.detach(), sin.detach())
    return torch.ops.editscore.rotary_embedding.default(*arguments, backend)  # type: ignore[no-any-return]


TABLE = OpTable(
    "rotary_embedding",
    (
        Candidate("cpu", _native.unavailable, _native_layers.why_not, _native_layers.rotary_embedding),
        Candidate("reference", lambda: None, lambda *arguments: None, _reference),
    ),
)


def _run(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return choose(TABLE, backend, q, k, cos, sin).run(q, k, cos, sin)  # type: ignore[no-any-return]


def _fake(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define(
    "rotary_embedding(Tensor q, Tensor k, Tensor cos, Tensor sin, str backend) -> (Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("rotary_embedding", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::rotary_embedding", _fake, lib=_LIBRARY)
