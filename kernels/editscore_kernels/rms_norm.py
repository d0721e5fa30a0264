"""The RMS norm of a model that must answer alike in any company.

    out[m, w] = weight[w] round(x[m, w] / sqrt(mean_w x[m, w]^2 + epsilon))

**Row by row.** On one backend a row of the result is bitwise the same for any number of rows, at any place, beside any neighbours; on the
CPU with any strides, on any number of threads and from any instruction set too. torch's mean does not keep this on a GPU: it shares a few
long rows out over more threads than many. In C++ column w is added to lane w % 64, one after the other, and the lanes are added in halves,
without fused multiply-add; in Triton one program sums a row.

**Rounding.** The row is summed and scaled in float32, rounded to x's dtype, and rounded again after the product with the weight, as
transformers' classes do. A sum in another order than torch's changes last bits of float32, and about 1 in 10^5 numbers of bfloat16.

**Edges**, as in transformers. A NaN makes all of its row NaN; an infinity becomes NaN, and the rest of its row 0 times the weight. Numbers
whose squares add up to more than float32 holds (some 10^19) become 0 too. A row of zeros stays one, for an epsilon of 0 it is NaN.

No gradient: answers are sampled, and trainers recompute what they need. No CUDA twin: Triton's one source does. Never run on a GPU.
"""

import math
from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _native, _native_layers, _triton
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose, rows_why_not
from editscore_kernels.reference.rms_norm import rms_norm as _reference

__all__ = ["TABLE", "rms_norm"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, *, backend: BackendChoice = "auto") -> Tensor:
    """The norm of x [..., W] times weight [W], of one dtype (float32, bfloat16, float16; float64 on the reference), in that dtype.

    Raises ValueError naming the argument, BackendError when the named backend cannot run, or on a CUDA device without Triton.
    """
    check_backend(backend)
    if x.ndim < 1 or x.dtype not in DTYPES:
        raise ValueError(f"x: expected [..., W] of {', '.join(map(str, DTYPES))}, got {list(x.shape)} of {x.dtype}")
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight: expected [{x.shape[-1]}], got {list(weight.shape)}")
    if weight.dtype != x.dtype or weight.device != x.device:
        raise ValueError(f"weight: {weight.dtype} on {weight.device}, x is {x.dtype} on {x.device}")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon: {epsilon} is not a number from 0 on")
    rows = x.detach().reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return torch.ops.editscore.rms_norm.default(rows, weight.detach(), epsilon, backend).view(x.shape)  # type: ignore[no-any-return]


TABLE = OpTable(
    "rms_norm",
    (
        _triton.candidate("rms_norm"),
        Candidate("cpu", _native.unavailable, _native_layers.why_not, _native_layers.rms_norm),
        Candidate("reference", lambda: None, rows_why_not, _reference),
    ),
)


def _run(x: Tensor, weight: Tensor, epsilon: float, backend: str) -> Tensor:
    return choose(TABLE, backend, x, weight, epsilon).run(x, weight, epsilon)  # type: ignore[no-any-return]


_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define("rms_norm(Tensor x, Tensor weight, float epsilon, str backend) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_LIBRARY.impl("rms_norm", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::rms_norm", lambda x, weight, epsilon, backend: x.new_empty(x.shape), lib=_LIBRARY)
