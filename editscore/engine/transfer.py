"""The way to the device and back: everything a step needs goes in one copy, everything it says comes back in one.

A copy of each little array would make the host wait for the device each time. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
# Every array begins at a multiple of so many bytes: kernels are compiled for aligned pointers.
ALIGNMENT = 16


def to_device(arrays: Sequence[Array], device: torch.device) -> list[Tensor]:
    """Arrays as tensors on a device; on a GPU in one copy that nobody waits for."""
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(x)) for x in arrays]
    return unpacked(packed(arrays).to(device, non_blocking=True), arrays)


def to_host(tensors: Sequence[Tensor]) -> list[Array]:
    """Tensors of one device as arrays: in one copy, and the only place where the engine waits for the device."""
    if all(x.device.type == "cpu" for x in tensors):
        return [x.numpy() for x in tensors]
    together = torch.cat([x.contiguous().view(-1).view(torch.uint8) for x in tensors]).cpu().numpy()
    ends = list(accumulate(x.numel() * x.element_size() for x in tensors))
    shapes = [(x.shape, torch.empty(0, dtype=x.dtype).numpy().dtype) for x in tensors]
    parts = zip([0, *ends], ends, shapes, strict=False)
    return [together[begin:end].view(dtype).reshape(shape) for begin, end, (shape, dtype) in parts]


def packed(arrays: Sequence[Array]) -> Tensor:
    """The bytes of arrays one after the other, in memory that a GPU can fetch by itself where there is one."""
    begins, size = _places(arrays)
    together = np.zeros(size, np.uint8)
    for begin, x in zip(begins, arrays, strict=True):
        together[begin : begin + x.nbytes] = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    tensor = torch.from_numpy(together)
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


def unpacked(together: Tensor, like: Sequence[Array]) -> list[Tensor]:
    """Views of what `packed` put together, wherever it lies now."""
    begins, _ = _places(like)
    types = [torch.from_numpy(np.empty(0, x.dtype)).dtype for x in like]
    return [together[b : b + x.nbytes].view(t).view(x.shape) for b, x, t in zip(begins, like, types, strict=True)]


def _places(arrays: Sequence[Array]) -> tuple[list[int], int]:
    """Where each array begins, and the number of bytes of all."""
    *begins, size = accumulate((-(-x.nbytes // ALIGNMENT) * ALIGNMENT for x in arrays), initial=0)
    return begins, size
