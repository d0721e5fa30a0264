"""The activation of a feed-forward layer and the product with its gate, in one pass over memory.

    out[n, w] = act(x[n, w]) * up[n, w],   or act(x[n, w]) without `up`

    silu:       x / (1 + exp(-x))
    gelu_tanh:  x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    gelu:       x / 2 (1 + erf(x / sqrt(2)))

**Element by element.** On one backend an element's result depends on that element's x and up only: the same bits at any place, in any
number of rows, with any strides, on any number of threads; on the CPU from any instruction set. torch's own float32 functions on the CPU
do not keep this: they compute the end of each thread's part in another way than the rest. (The reference calls them in float64 and
rounds, so a difference would have to lie within 1e-9 of a rounding boundary.)

**Rounding.** For bfloat16 and float16 act is computed in float32 and rounded to x's dtype, and the product is rounded again, as torch does
for `act(x) * up`. In float32 act is off by at most 1.8e-7 of its value (silu), 4.7e-7 (gelu) and 2.1e-6 (gelu_tanh above -5; 7.4e-6 at -8).
torch's GELUs lose up to all bits of small results below -1, where 1 + tanh and 1 + erf cancel; elsewhere the two agree but for last bits.

**Edges.** NaN gives NaN; -inf gives NaN (-inf * 0, as in torch); +inf gives +inf; x below the exponential's range gives -0 (silu: below
-88.73); subnormal x gives x / 2. torch's float32 `gelu` gives NaN at +inf and +inf from about 1e38; here it is x, as in float64.

No gradient: answers are sampled, and trainers recompute what they need.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from editscore_kernels import _native, _native_activation, _native_cuda, _native_cuda_activation, _triton
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose
from editscore_kernels.reference.gated_activation import ACTIVATIONS
from editscore_kernels.reference.gated_activation import gated_activation as _reference

__all__ = ["TABLE", "ActivationKind", "PreparedActivation", "gated_activation"]

ActivationKind = Literal["silu", "gelu_tanh", "gelu"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def gated_activation(x: Tensor, up: Tensor | None = None, *, kind: ActivationKind, backend: BackendChoice = "auto") -> Tensor:
    """act(x) * up of x and up [N, W] of one dtype (float32, bfloat16, float16; float64 on the reference), contiguous in x's dtype.

    Rows may have any stride, so x and up may be halves of one matrix. Raises ValueError naming the argument, BackendError when the
    named backend cannot run.
    """
    check_backend(backend)
    _check(x, up, kind)
    return torch.ops.editscore.gated_activation.default(x.detach(), None if up is None else up.detach(), kind, backend)  # type: ignore[no-any-return]


Run = Callable[[Tensor, Tensor | None, bool], Tensor]


class PreparedActivation:
    """The op for many calls, such as one per layer of a model: the backend is chosen once for each dtype and device.

    Calls do not pass through torch's dispatcher: on the CPU a call takes some 3 us beside its work instead of 7.
    """

    def __init__(self, kind: ActivationKind, *, backend: BackendChoice = "auto") -> None:
        check_backend(backend)
        _check_kind(kind)
        self._kind, self._backend = kind, backend
        self._runs: dict[tuple[torch.dtype, torch.device], Run] = {}

    def __call__(self, x: Tensor, up: Tensor | None = None, *, in_place: bool = False) -> Tensor:
        """Arguments, result and errors as those of `gated_activation`.

        `in_place` says that nobody else needs x: the C++ writes over it if it is contiguous. Where results are so large that each is
        mapped anew (some 20 MB) this is most of the time.
        """
        run = self._runs.get((x.dtype, x.device)) or self._prepare(x, up)
        return run(x, up, in_place)

    def _prepare(self, x: Tensor, up: Tensor | None) -> Run:
        _check(x, up, self._kind)
        kind, chosen = self._kind, choose(TABLE, self._backend, x, up, self._kind)

        def run(x: Tensor, up: Tensor | None, in_place: bool) -> Tensor:
            _check(x, up, kind)
            return chosen.run(x.detach(), None if up is None else up.detach(), kind)  # type: ignore[no-any-return]

        prepared = _native_activation.BoundActivation(kind) if chosen.backend == "cpu" else run
        self._runs[x.dtype, x.device] = prepared
        return prepared


def _check_kind(kind: str) -> None:
    if kind not in ACTIVATIONS:
        raise ValueError(f"kind: {kind!r} is not one of {', '.join(ACTIVATIONS)}")


def _check(x: Tensor, up: Tensor | None, kind: str) -> None:
    if x.ndim != 2 or x.dtype not in DTYPES:
        raise ValueError(f"x: expected [N, W] of {', '.join(map(str, DTYPES))}, got {list(x.shape)} of {x.dtype}")
    if up is not None and (up.shape != x.shape or up.dtype != x.dtype or up.device != x.device):
        raise ValueError(f"up: expected {list(x.shape)} of {x.dtype} on {x.device}, got {list(up.shape)} of {up.dtype} on {up.device}")
    _check_kind(kind)


TABLE = OpTable(
    "gated_activation",
    (
        Candidate("cuda", _native_cuda.unavailable, _native_cuda_activation.why_not, _native_cuda_activation.gated_activation),
        _triton.candidate("gated_activation"),
        Candidate("cpu", _native.unavailable, _native_activation.why_not, _native_activation.gated_activation),
        Candidate("reference", lambda: None, lambda *arguments: None, _reference),
    ),
)


def _run(x: Tensor, up: Tensor | None, kind: str, backend: str) -> Tensor:
    return choose(TABLE, backend, x, up, kind).run(x, up, kind)  # type: ignore[no-any-return]


_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define(
    "gated_activation(Tensor x, Tensor? up, str kind, str backend) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("gated_activation", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::gated_activation", lambda x, up, kind, backend: x.new_empty(x.shape), lib=_LIBRARY)
