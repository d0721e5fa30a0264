"""Linear layers whose weights lie in the blocks that oneDNN's matrix products read, packed once when a model is loaded.

torch's own `F.linear` packs the weights again in every call (bfloat16), or calls another library's product (float32). Measured on an
AMD EPYC, one thread, 896 x 4864: bfloat16 475 against 315 GFLOP/s at 16 rows and 502 against 457 at 192, bit for bit the same; float32
240 against 84 at 192. A row's bits do not depend on the number of rows (multiples of 16) or of threads; tests/models/test_packed.py.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The number of rows that the layout of the weights is chosen for; any number may come.
PACKED_FOR_ROWS = 192
DTYPES = (torch.float32, torch.bfloat16)


def why_not(weight: Tensor) -> str | None:
    """Why a layer with this weight is left to torch's own product, or None. The two functions are private to torch."""
    if weight.device.type != "cpu":
        return f"on {weight.device}"
    if weight.dtype not in DTYPES:
        return f"{weight.dtype} is not packed"
    return _trial(weight.dtype)


@functools.cache
def _trial(dtype: torch.dtype) -> str | None:
    """A small product, tried once: the two functions may be missing, or mean something else in another version of torch."""
    try:
        weight, x = torch.arange(1024.0).view(32, 32).sin().to(dtype), torch.arange(512.0).view(16, 32).cos().to(dtype)
        found = torch.ops.mkldnn._linear_pointwise(x, _packed(weight), None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError) as error:
        return f"oneDNN's packed product does not run here: {str(error).splitlines()[0]}"
    if not torch.allclose(found.float(), F.linear(x.float(), weight.float()), rtol=1e-2, atol=1e-1):
        return "oneDNN's packed product is wrong here"
    return None


def _packed(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_FOR_ROWS)
    return packed


class PackedLinear(nn.Module):
    """x [..., in] to [..., out], as the layer that it was made from."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed = _packed(linear.weight)

    @property
    def num_weights(self) -> int:
        """Numbers of the weight matrix."""
        return self.in_features * self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """The product with the packed weights, and the bias."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return out


def pack_linears(network: nn.Module, *, keep: tuple[nn.Module, ...] = ()) -> int:
    """Replaces the linear layers of a network that can be packed, except `keep`; returns how many.

    The weights that they were made from are still mapped from the checkpoint's file; their pages are given back to the system.
    """
    count, mapped = 0, _mapped_files()
    tied = Counter(weight.data_ptr() for _, weight in network.named_parameters(remove_duplicate=False))
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child not in keep and why_not(child.weight) is None:
                setattr(module, name, PackedLinear(child))
                if tied[child.weight.data_ptr()] == 1:
                    _give_back(child.weight, mapped)
                count += 1
    return count


def _mapped_files() -> list[tuple[int, int]]:
    """Where files are mapped into this process, as [begin, end) addresses; empty where the system does not say."""
    try:
        lines = Path("/proc/self/maps").read_text("utf-8").splitlines()
    except OSError:
        return []
    fields = (line.split(maxsplit=5) for line in lines)
    return [_span(found[0]) for found in fields if len(found) == 6 and found[5].endswith(".safetensors")]


def _span(text: str) -> tuple[int, int]:
    begin, _, end = text.partition("-")
    return int(begin, 16), int(end, 16)


def _give_back(weight: Tensor, mapped: list[tuple[int, int]]) -> None:
    """Drops the whole pages of a weight that is mapped from a file and that nobody will read again; read again, they would come back."""
    begin, page = weight.data_ptr(), mmap.PAGESIZE
    end = begin + weight.numel() * weight.element_size()
    if any(low <= begin and end <= high for low, high in mapped):
        first, last = -(-begin // page) * page, end // page * page
        if last > first:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
