"""`rms_norm`: every backend, type and width against the reference in float64, and that against the formula; a row's bits in any company."""

from __future__ import annotations

import math

import pytest
import torch
from editscore_kernels import BackendError, explain, instruction_sets, rms_norm, use_instruction_set
from editscore_kernels.reference.rms_norm import rms_norm as reference
from editscore_kernels.rms_norm import TABLE
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

BACKENDS = [name for name, answer in explain("rms_norm") if answer == "yes"]
HALF_ULP = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
EPSILON = 1e-6
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_dtype = pytest.mark.parametrize("dtype", list(HALF_ULP), ids=str)
needs_cpu = pytest.mark.skipif("cpu" not in BACKENDS, reason="the compiled module is missing")


def inputs(rows: int, width: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-3, 3, rows)[:, None]
    x, weight = torch.randn(rows, width, generator=generator) * scales, 1 + torch.randn(width, generator=generator) / 4
    return x.to(dtype), weight.to(dtype)


def bits(x: Tensor) -> Tensor:
    return x.view(torch.int32 if x.dtype == torch.float32 else torch.int16)


def norm(x: Tensor, weight: Tensor, backend: str, epsilon: float = EPSILON) -> Tensor:
    return rms_norm(x, weight, epsilon, backend=backend)  # type: ignore[arg-type]


def test_the_reference_is_the_formula() -> None:
    x, weight = torch.randn(3, 5, 24, dtype=torch.float64), torch.randn(24, dtype=torch.float64)
    expected = weight * x / (x.square().sum(-1, keepdim=True) / 24 + EPSILON).sqrt()
    torch.testing.assert_close(rms_norm(x, weight, EPSILON), expected)


@each_backend
@each_dtype
@pytest.mark.parametrize("width", [1, 32, 64, 128, 777, 896, 1009, 3584])
def test_the_law(backend: str, dtype: torch.dtype, width: int) -> None:
    """At most twice the reference's own error in the working precision; and number by number, two roundings and the scale's error."""
    x, weight = inputs(9, width, dtype)
    got = norm(x, weight, backend)
    assert got.dtype == dtype and got.shape == x.shape and got.is_contiguous()
    gold = reference(x.double(), weight.double(), EPSILON)
    own = (reference(x, weight, EPSILON).double() - gold).abs().max()
    assert (got.double() - gold).abs().max() <= 2 * own + 2.0**-24 * gold.abs().max()
    # Sums of up to 56 x 64 squares in float32 are off by less than 40 roundings, halved by the root.
    limit = gold.abs() * (2.02 * HALF_ULP[dtype] + 24 * 2.0**-24) + 2.0**-24 * (dtype == torch.float16)
    assert bool(((got.double() - gold).abs() <= limit).all())


@each_backend
def test_bfloat16_has_torchs_bits_but_for_roundings_that_nearly_tie(backend: str) -> None:
    x, weight = inputs(200, 896, torch.bfloat16)
    is_same = bits(norm(x, weight, backend)) == bits(reference(x, weight, EPSILON))
    assert is_same.float().mean() > 0.9995  # measured: .99999


@needs_cpu
@each_dtype
@pytest.mark.parametrize("width", [1, 63, 64, 896, 1009])
def test_a_row_has_the_same_bits_anywhere(dtype: torch.dtype, width: int) -> None:
    """Alone, in company, on more threads than one, on every instruction set, in rows and weights of any stride and offset."""
    x, weight = inputs(400, width, dtype)
    torch.set_num_threads(1)
    whole = bits(norm(x, weight, "cpu"))
    for name in instruction_sets():
        with use_instruction_set(name):
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                assert torch.equal(bits(norm(x, weight, "cpu")), whole)
            for rows in (slice(0, 1), slice(7, 20), slice(399, 400)):
                assert torch.equal(bits(norm(x[rows], weight, "cpu")), whole[rows])
    louder = torch.cat([x[:1], 1e3 * torch.ones(3, width, dtype=dtype), x[:1] * math.nan])
    assert torch.equal(bits(norm(louder, weight, "cpu"))[0], whole[0])
    shifted = torch.zeros(400 * (width + 5) + 3, dtype=dtype)[3:].view(400, width + 5)[:, :width].copy_(x)
    assert torch.equal(bits(norm(shifted, weight, "cpu")), whole)
    assert torch.equal(bits(norm(x.t().contiguous().t(), weight.repeat_interleave(2)[::2], "cpu")), whole)
    assert torch.equal(bits(norm(x.view(20, 20, width), weight, "cpu")).view(400, width), whole)


@each_backend
@each_dtype
def test_edges_are_those_of_transformers(backend: str, dtype: torch.dtype) -> None:
    width = 70
    info = torch.finfo(dtype)
    ones = torch.ones(width, dtype=dtype)
    cases = {"zeros": 0 * ones, "subnormal": ones * info.smallest_normal / 2, "largest": ones * info.max, "nan": ones.clone()}
    cases |= {"inf": ones.clone(), "-inf": ones.clone()}
    for name, value in (("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf)):
        cases[name][67] = value
    x, weight = torch.stack(list(cases.values())), torch.full_like(ones, -2.0)
    got = dict(zip(cases, norm(x, weight, backend), strict=True))
    assert not got["zeros"].any()
    assert got["nan"].isnan().all()
    for name in ("inf", "-inf"):
        assert got[name][67].isnan() and got[name].isnan().sum() == 1 and not got[name].nan_to_num().any()
    torch.testing.assert_close(got["largest"], 0 * ones if dtype != torch.float16 else weight)
    # Squares of subnormals vanish beside epsilon: x / sqrt(epsilon), which is what tells whether subnormals are flushed.
    torch.testing.assert_close(got["subnormal"].double(), -2 * cases["subnormal"].double() / math.sqrt(EPSILON), rtol=1e-2, atol=1e-7)
    assert got["subnormal"].all() or dtype == torch.float32
    assert norm(x[:1], weight, backend, epsilon=0.0).isnan().all()
    assert norm(x[:0], weight, backend).shape == (0, width)
    assert norm(x[:, :0], weight[:0], backend).shape == (len(x), 0)


@each_backend
def test_torch_knows_the_op(backend: str) -> None:
    x, weight = inputs(5, 24, torch.float32)
    torch.library.opcheck(torch.ops.editscore.rms_norm.default, (x, weight, EPSILON, backend))
    compiled = torch.compile(lambda x: norm(x, weight, backend) + 1, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), norm(x, weight, backend) + 1)
    assert not norm(x.requires_grad_(), weight, backend).requires_grad


def test_what_does_not_fit_is_named() -> None:
    x, weight = torch.zeros(2, 8), torch.zeros(8)
    for arguments, message in (
        ((x.int(), weight, 0.0), "x: expected"),
        ((torch.zeros(()), weight, 0.0), "x: expected"),
        ((x, weight[:7], 0.0), r"weight: expected \[8\], got \[7\]"),
        ((x, x, 0.0), r"weight: expected \[8\]"),
        ((x, weight.double(), 0.0), "weight: torch.float64 on cpu, x is torch.float32"),
        ((x, weight, -1e-6), "epsilon: -1e-06"),
        ((x, weight, math.nan), "epsilon: nan"),
    ):
        with pytest.raises(ValueError, match=message):
            rms_norm(*arguments)
    with pytest.raises(ValueError, match="backend"):
        norm(x, weight, "nothing")
    with pytest.raises(BackendError, match=r"rms_norm cannot run on backend cpu: .*float64: the reference only"):
        norm(x.double(), weight.double(), "cpu")


def test_a_cuda_tensor_never_gets_the_reference() -> None:
    """Its rows would depend on their number, in silence."""
    with FakeTensorMode():
        x = torch.empty(2, 4, device="cuda")
        assert TABLE.candidates[-1].reason(x) == "x is on cuda:0, where torch's own rows depend on their number"
