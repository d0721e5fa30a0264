"""A CUDA device that computes nothing: tensors with a shape, a dtype and a place, which refuse to meet tensors of another place.

torch's fake tensors do nearly all of it, on a build without CUDA too. Two things are added. Python's `x[...]`, `x.copy_(y)` and
`x.contiguous()` ask for a guard of the device that such a build has not, so they are taken apart into the operators that they mean. And an
index on the CPU, which torch accepts for a tensor on a GPU and copies there while the host waits, counts as the mistake that it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)


class MisplacedError(AssertionError):
    """A tensor is not where it should be."""


class _Forgetful(FakeTensorMode):
    """Fake tensors remember small values, and would move them to a device that is not there."""

    def may_turn_const(self, t: Tensor) -> bool:
        return False


class _Indexing(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        is_cuda = bool(args) and isinstance(args[0], Tensor) and args[0].device.type == "cuda"
        if is_cuda and function is Tensor.__getitem__:
            x, indices = _taken_apart(*args)
            return torch.ops.aten.index.Tensor(x, indices) if indices else x
        if is_cuda and function is Tensor.__setitem__:
            x, indices = _taken_apart(*args[:2])
            value = args[2] if isinstance(args[2], Tensor) else torch.empty((), dtype=x.dtype, device=x.device)
            return torch.ops.aten.index_put_.default(x, indices, value) if indices else torch.ops.aten.copy_.default(x, value)
        if is_cuda and function is Tensor.copy_:
            return torch.ops.aten.copy_.default(*args[:2])
        if is_cuda and function is Tensor.contiguous:
            return torch.ops.aten.clone.default(args[0], memory_format=torch.contiguous_format)
        return function(*args, **(kwargs or {}))


def _taken_apart(x: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """The view that the plain parts of an index mean, and its tensors by dimension."""
    items = list(index) if isinstance(index, tuple) else [index]
    dim, indices = 0, {}
    for place, item in enumerate(items):
        if item is None:
            x, dim = x.unsqueeze(dim), dim + 1
        elif item is Ellipsis:
            dim = x.ndim - sum(later is not None for later in items[place + 1 :])
        elif isinstance(item, slice):
            x, dim = torch.ops.aten.slice.Tensor(x, dim, item.start, item.stop, item.step or 1), dim + 1
        elif isinstance(item, int):
            x = x.select(dim, item)
        elif not isinstance(item, Tensor) or item.device != x.device:
            raise MisplacedError(f"{type(item).__name__} on {getattr(item, 'device', 'cpu')} indexes a tensor on {x.device}")
        elif item.dtype == torch.bool:
            raise MisplacedError("a mask as an index: the host waits to hear how many of its entries are true")
        else:
            indices[dim], dim = item, dim + 1
    return x, [indices.get(i) for i in range(max(indices, default=-1) + 1)]


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Inside the block CUDA tensors can be made and computed with."""
    with _Forgetful(allow_non_fake_inputs=True), _Indexing(), torch.inference_mode():
        yield


def move(network: nn.Module) -> None:
    """Puts every parameter and buffer on the device; inside `fake_cuda`."""
    moved: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                empty = torch.empty(weight.shape, dtype=weight.dtype, device=CUDA)
                module._parameters[name] = moved.setdefault(id(weight), nn.Parameter(empty, requires_grad=False))
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)


def assert_on_device(tensors: Sequence[Any], what: Callable[[int], str] = str) -> None:
    """Every one of them is a fake tensor on the device."""
    for i, x in enumerate(tensors):
        if not isinstance(x, FakeTensor) or x.device != CUDA:
            raise MisplacedError(f"{what(i)}: {getattr(x, 'device', type(x).__name__)}")
