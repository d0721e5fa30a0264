"""Why no CUDA kernel can run; and `sample_tokens` in CUDA: the checks of what pointers cannot say, the call.

The kernel is compiled for sm_80 and sm_90a and tested on its host twin (docs/host-twin.md); it has never run on a GPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from editscore_kernels import _native

ARCHITECTURES = "8.x and 9.0"  # compute capabilities of the machine code in the module; it has no PTX that a newer one could compile

Result = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def unavailable() -> str | None:
    """Why no CUDA kernel can run with this build or on this machine, or None."""
    reason = _native.unavailable()
    if reason:
        return reason
    if not hasattr(_native.module(), "sample_tokens_cuda"):
        return f"the compiled module was built without CUDA; with nvcc on the path, {_native.REBUILD}"
    if not torch.cuda.is_available():
        return "no CUDA device (the kernel is compiled and tested on its host twin, never run on a GPU)"
    return None


def capability_why_not(device: torch.device) -> str | None:
    """Why the machine code of the module does not run on a CUDA device, or None."""
    major, minor = torch.cuda.get_device_capability(device)
    if major != 8 and (major, minor) != (9, 0):
        return f"{device} has compute capability {major}.{minor}, the kernel is compiled for {ARCHITECTURES}"
    return None


def sample_tokens_why_not(logits: Tensor, *rest: Any) -> str | None:
    """What the CUDA sampler cannot do."""
    if logits.device.type != "cuda":
        return f"logits are on {logits.device}"
    if logits.dtype not in _native.LOGIT_TYPES:
        return f"logits of {logits.dtype}: the reference only"
    return capability_why_not(logits.device)


def sample_tokens(logits: Tensor, *rest: Any) -> Result:
    """`sample_tokens` on the current stream of the logits' device; arguments and results as the op's schema."""
    reason = unavailable() or sample_tokens_why_not(logits)
    if reason:
        raise ValueError(f"logits: {reason}")
    with torch.cuda.device(logits.device):
        stream = torch.cuda.current_stream().cuda_stream
        return call_sampler(_native.module().sample_tokens_cuda, logits, *rest, extra=(stream,))


def call_sampler(
    function: Callable[..., Any],
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    seed: Tensor,
    request: Tensor,
    position: Tensor,
    mask: Tensor | None,
    option_ids: Tensor | None,
    *,
    extra: tuple[Any, ...] = (),
) -> Result:
    """Calls a function that takes SampleTokensParams as numbers, then `extra`: the kernel's launcher, or its host twin."""
    rows, vocabulary = logits.shape
    num_options = 0 if option_ids is None else option_ids.shape[1]
    logits = logits.contiguous() if logits.stride(1) != 1 and vocabulary > 1 else logits
    if mask is not None:
        mask = _checked("mask", mask, logits, torch.int32, (rows, mask.shape[1]), is_strided=True)
    if option_ids is not None:
        option_ids = _checked("option_ids", option_ids, logits, torch.int64, (rows, num_options))
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed, "request": request, "position": position}
    for name, column in given.items():
        _checked(name, column, logits, torch.float64 if name in ("temperature", "top_p") else torch.int64, (rows,))
    token, status = logits.new_empty(rows, dtype=torch.int64), logits.new_empty(rows, dtype=torch.int32)
    raw, filtered, options = (logits.new_empty(shape, dtype=_native.REAL) for shape in ((rows,), (rows,), (rows, num_options)))
    function(
        *(logits.data_ptr(), _native.LOGIT_TYPES[logits.dtype], rows, vocabulary, logits.stride(0)),
        *(column.data_ptr() for column in given.values()),
        *((0, 0, 0) if mask is None else (mask.data_ptr(), mask.shape[1], mask.stride(0))),
        *((0, 0) if option_ids is None else (option_ids.data_ptr(), num_options)),
        *(result.data_ptr() for result in (token, raw, filtered, status, options)),
        *extra,
    )
    return token, raw, filtered, status, options


def _checked(name: str, tensor: Tensor, logits: Tensor, dtype: torch.dtype, shape: tuple[int, ...], *, is_strided: bool = False) -> Tensor:
    """The tensor itself, of this dtype and shape on the logits' device; `is_strided` leaves the stride of its rows free."""
    if tensor.device != logits.device or tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise ValueError(
            f"{name}: expected {list(shape)} of {dtype} on {logits.device}, got {list(tensor.shape)} of {tensor.dtype} on {tensor.device}"
        )
    if is_strided:
        return tensor.contiguous() if tensor.stride(1) != 1 and tensor.shape[1] > 1 else tensor
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor")
    return tensor
