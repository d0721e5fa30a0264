"""A linear layer whose rows do not know each other on a GPU, for a model that must answer alike in any company.

    out[m, n] = sum_k x[m, k] weight[n, k] + bias[n]

**Row by row.** A row of the result is bitwise the same for any number of rows, at any place, beside any neighbours. cuBLAS does not keep
this: it chooses tiles, and cuts along K, by the number of rows. Here one block of fixed size walks K from its beginning to its end and sums
in float32; a layer's shape and dtype choose the block, the number of rows never does (the cure named by He et al., "Defeating
Nondeterminism in LLM Inference", 2025). float32 is computed as float32, without TF32.

Triton only, and for CUDA devices only: on a CPU rows in multiples of 16 have the same property through torch's own matrix products
(docs/engine.md), so a C++ kernel would compete with oneDNN for nothing, and a CUDA twin would write tensor-core code for three
architectures where Triton's one source does. It is therefore not in `OPS`. Never run on a GPU.

No gradient: answers are sampled, and trainers recompute what they need.
"""

import math
from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _triton
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose, rows_why_not
from editscore_kernels.reference.invariant_linear import invariant_linear as _reference

__all__ = ["TABLE", "invariant_linear", "unavailable"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def invariant_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: BackendChoice = "auto") -> Tensor:
    """x [..., K] times weight [N, K] plus bias [N], of one dtype (float32, bfloat16, float16; float64 on the reference): [..., N].

    Raises ValueError naming the argument, BackendError when the named backend cannot run, or on a CUDA device without Triton.
    """
    check_backend(backend)
    _check(x, weight, bias)
    rows = x.detach().reshape(math.prod(x.shape[:-1]), x.shape[-1])
    out = torch.ops.editscore.invariant_linear.default(rows, weight.detach(), None if bias is None else bias.detach(), backend)
    return out.view(*x.shape[:-1], weight.shape[0])  # type: ignore[no-any-return]


def unavailable() -> str | None:
    """Why this layer and `rms_norm` cannot run on a CUDA device of this machine, or None."""
    return _triton.unavailable()


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if x.ndim < 1 or x.dtype not in DTYPES:
        raise ValueError(f"x: expected [..., {weight.shape[-1]}] of {', '.join(map(str, DTYPES))}, got {list(x.shape)} of {x.dtype}")
    if weight.ndim != 2 or weight.shape[-1] != x.shape[-1]:
        raise ValueError(f"weight: expected 2 dimensions, the last of {x.shape[-1]}, got {list(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias: expected [{weight.shape[0]}], got {list(bias.shape)}")
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and (other.dtype != x.dtype or other.device != x.device):
            raise ValueError(f"{name}: {other.dtype} on {other.device}, x is {x.dtype} on {x.device}")


TABLE = OpTable("invariant_linear", (_triton.candidate("invariant_linear"), Candidate("reference", lambda: None, rows_why_not, _reference)))


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, backend: str) -> Tensor:
    return choose(TABLE, backend, x, weight, bias).run(x, weight, bias)  # type: ignore[no-any-return]


_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define(
    "invariant_linear(Tensor x, Tensor weight, Tensor? bias, str backend) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("invariant_linear", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::invariant_linear", lambda x, weight, bias, backend: x.new_empty(len(x), len(weight)), lib=_LIBRARY)
