"""The batch-invariant linear layer as torch sees it: the reference against float64, opcheck, compiling, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from editscore_kernels import BackendError
from editscore_kernels.invariant_linear import TABLE, invariant_linear
from torch._subclasses.fake_tensor import FakeTensorMode


def test_the_reference_is_the_formula() -> None:
    x, weight, bias = (torch.randn(*size, dtype=torch.float64) for size in ((3, 5, 24), (7, 24), (7,)))
    expected = (x[..., None, :] * weight).sum(-1) + bias
    torch.testing.assert_close(invariant_linear(x, weight, bias), expected)


def test_torch_knows_the_op() -> None:
    x, weight, bias = torch.randn(5, 24), torch.randn(7, 24), torch.randn(7)
    torch.library.opcheck(torch.ops.editscore.invariant_linear.default, (x, weight, bias, "reference"))
    compiled = torch.compile(lambda x: invariant_linear(x, weight, bias) + 1, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), invariant_linear(x, weight, bias) + 1)


def test_what_does_not_fit_is_named() -> None:
    x, weight = torch.randn(5, 24), torch.randn(7, 24)
    for arguments, message in (
        ((x, weight[:, :-1]), "weight: expected 2 dimensions, the last of 24"),
        ((x, weight, torch.zeros(6)), r"bias: expected \[7\]"),
        ((x, weight.double()), "weight: torch.float64 on cpu, x is torch.float32"),
        ((x.int(), weight), "x: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            invariant_linear(*arguments)


def test_a_cuda_tensor_never_gets_the_reference() -> None:
    """Its rows would depend on their number, in silence."""
    with FakeTensorMode():
        x = torch.empty(2, 4, device="cuda")
        assert TABLE.candidates[1].reason(x) == "x is on cuda:0, where torch's own rows depend on their number"
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="invariant_linear cannot run on backend triton"):
            invariant_linear(torch.ones(1, 4), torch.ones(2, 4), backend="triton")
