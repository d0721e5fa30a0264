"""`gated_activation`: every backend, type, width and layout against the reference in float64, and that against torch's own functions."""

from __future__ import annotations

import math

import pytest
import torch
from activation_cases import DTYPES, HALF_ULP, KINDS, margin, random_input, torch_act
from editscore_kernels import PreparedActivation, explain, gated_activation
from editscore_kernels.reference.gated_activation import gated_activation as reference
from torch import Tensor

BACKENDS = [name for name, answer in explain("gated_activation") if answer == "yes"]
WIDTHS = (1, 777, 1009, 3420, 4864)
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_kind = pytest.mark.parametrize("kind", KINDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def gold_of(x: Tensor, up: Tensor | None, kind: str) -> Tensor:
    return reference(x.double(), None if up is None else up.double(), kind)


@each_kind
def test_the_reference_is_torchs_function(kind: str) -> None:
    """Within float64, and where 1 + tanh and 1 + erf cancel in torch, within what they lose."""
    x = torch.linspace(-8, 40, 100_001, dtype=torch.float64)[None]
    torch.testing.assert_close(reference(x, None, kind), torch_act(x, kind), rtol=1e-14, atol=1e-14)
    far = torch.tensor([-30.0, -20.0, -12.0, -8.0], dtype=torch.float64)
    exact = {
        "silu": [-30 / (1 + math.exp(30)), -20 / (1 + math.exp(20)), -12 / (1 + math.exp(12)), -8 / (1 + math.exp(8))],
        "gelu_tanh": [float(v) / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * float(v + 0.044715 * v**3))) for v in far[2:]],
        "gelu": [float(v) * 0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in far],
    }[kind]
    given = far[-len(exact) :][None]
    torch.testing.assert_close(reference(given, None, kind)[0], torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=0)


@each_backend
@each_kind
@each_dtype
@pytest.mark.parametrize("width", WIDTHS)
def test_the_law(backend: str, kind: str, dtype: torch.dtype, width: int) -> None:
    """At most twice the error of torch in the working precision, one rounding of the result beside it; and element by element."""
    x, up = random_input(max(3, 4000 // width), width, dtype)
    for gate in (up, None):
        got = gated_activation(x, gate, kind=kind, backend=backend)  # type: ignore[arg-type]
        assert got.dtype == dtype
        assert got.is_contiguous()
        gold = gold_of(x, gate, kind)
        plain = torch_act(x, kind) if gate is None else torch_act(x, kind) * gate
        error, own = ((each.double() - gold).abs().max() for each in (got, plain))
        assert error <= 2 * own + 2.0**-24 * gold.abs().max()
        assert bool(((got.double() - gold).abs() <= margin(gold, kind, dtype, is_gated=gate is not None)).all())


@each_backend
@each_kind
@each_dtype
def test_strided_rows_have_the_bits_of_contiguous_ones(backend: str, kind: str, dtype: torch.dtype) -> None:
    """Both halves of a merged projection; every other row; a last dimension of another stride; one row for all; no rows, no columns."""
    merged = torch.cat(random_input(9, 777, dtype), dim=1)
    x, up = merged.chunk(2, dim=1)
    whole = gated_activation(x.contiguous(), up.contiguous(), kind=kind, backend=backend)  # type: ignore[arg-type]
    turned = [each.t().contiguous().t() for each in (x, up)]
    for given, rows in (((x, up), slice(None)), ((x[::2], up[::2]), slice(None, None, 2)), (turned, slice(None))):
        got = gated_activation(*given, kind=kind, backend=backend)  # type: ignore[arg-type]
        assert got.is_contiguous()
        assert torch.equal(got, whole[rows])
    same = gated_activation(x[:1].expand(4, -1), up[:1].expand(4, -1), kind=kind, backend=backend)  # type: ignore[arg-type]
    assert torch.equal(same, whole[:1].expand(4, -1))
    for shape in ((0, 777), (9, 0)):
        empty = torch.zeros(shape, dtype=dtype)
        assert gated_activation(empty, empty, kind=kind, backend=backend).shape == shape  # type: ignore[arg-type]


@each_backend
@each_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_results_are_those_of_torch(backend: str, kind: str, dtype: torch.dtype) -> None:
    """All 2^16 inputs. SiLU in C++ has torch's bits wherever half of x is a normal number; a GELU above -1 takes the other neighbour of
    a rounding boundary for at most 6 of 49,152 inputs in float16, never in bfloat16. Below -1 torch loses bits, up to 2.4e-7 in all."""
    x = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(dtype).reshape(256, 256)
    x = torch.where((x.abs() < 1e30) & (x.abs() >= 2 * torch.finfo(dtype).smallest_normal), x, torch.ones_like(x))
    own, got = torch_act(x, kind), gated_activation(x, kind=kind, backend=backend)  # type: ignore[arg-type]
    compared = x > (-80 if kind == "silu" else -1)
    assert int((compared & (got != own)).sum()) <= (0 if (kind, backend) == ("silu", "cpu") else 6)
    assert bool(((rank(own) - rank(got)).abs() <= 1)[compared].all())
    allowed = own.double().abs() * 2.02 * HALF_ULP[dtype] + 3e-7
    assert bool(((own.double() - got.double()).abs() <= allowed).all())


def rank(x: Tensor) -> Tensor:
    """16-bit floats as integers in their order."""
    bits = x.view(torch.int16).int()
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


@each_backend
@each_kind
@each_dtype
def test_edges_are_torchs(backend: str, kind: str, dtype: torch.dtype) -> None:
    """torch in float64, rounded to the dtype: its float32 gelu has NaN at infinity."""
    finfo = torch.finfo(dtype)
    tiny = float(finfo.smallest_normal)
    numbers = [0.0, -0.0, tiny, -tiny, tiny / 4, -tiny / 4, 1e-8, -1e-8, 30.0, 300.0, finfo.max, -finfo.max, -150.0, -300.0]
    x = torch.tensor([[*numbers, torch.inf, -torch.inf, torch.nan]], dtype=torch.float64).to(dtype)
    got = gated_activation(x, kind=kind, backend=backend)  # type: ignore[arg-type]
    expected = torch_act(x.double(), kind).to(dtype)
    assert bool(got[0, -2:].isnan().all()), "-inf * 0, and NaN"
    assert torch.equal(got[0, :-2], expected[0, :-2])
    assert torch.equal(got[0, :-2].signbit(), expected[0, :-2].signbit())
    up = torch.tensor([[torch.inf, 0.0, torch.nan, -torch.inf]], dtype=dtype)
    product = gated_activation(torch.tensor([[1.0, torch.inf, 1.0, -1.0]], dtype=dtype), up, kind=kind, backend=backend)  # type: ignore[arg-type]
    assert product[0].isnan().tolist() == [False, True, True, False]
    assert product[0, [0, 3]].tolist() == [torch.inf, torch.inf]


@each_backend
def test_bad_input_is_named(backend: str) -> None:
    x = torch.ones(2, 3)
    for name, arguments, kind in (
        ("x", (x[0],), "silu"),
        ("x", (x.int(),), "silu"),
        ("up", (x, x[:1]), "silu"),
        ("up", (x, x.double()), "silu"),
        ("up", (x, x.to("meta")), "silu"),
        ("kind", (x, x), "relu"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: "):
            gated_activation(*arguments, kind=kind, backend=backend)  # type: ignore[arg-type]
    prepared = PreparedActivation("gelu", backend=backend)  # type: ignore[arg-type]
    prepared(x, x)
    for bad in ((x[0],), (x, x[:1]), (x, x.double()), (x, x.to("meta"))):
        with pytest.raises(ValueError, match=r"^(x|up): "):
            prepared(*bad)
    with pytest.raises(ValueError, match=r"^kind: "):
        PreparedActivation("relu")  # type: ignore[arg-type]


@each_backend
@each_kind
def test_prepared_calls_have_the_same_bits(backend: str, kind: str) -> None:
    """Any shape after the first, another dtype, inputs that ask for a gradient; the result asks for none."""
    prepared = PreparedActivation(kind, backend=backend)  # type: ignore[arg-type]
    for dtype, rows in ((torch.float32, 5), (torch.bfloat16, 3), (torch.float32, 1)):
        x, up = random_input(rows, 70, dtype)
        for gate in (up, None):
            got = prepared(x.requires_grad_(), gate)
            assert not got.requires_grad
            again = gated_activation(x, gate, kind=kind, backend=backend)  # type: ignore[arg-type]
            assert not again.requires_grad
            assert torch.equal(got, again)


@each_backend
@each_kind
@each_dtype
def test_in_place_is_allowed_and_has_the_same_bits(backend: str, kind: str, dtype: torch.dtype) -> None:
    """The C++ writes over an x that is contiguous, the gate being x itself or another; never over a row of a matrix, and never over up."""
    prepared = PreparedActivation(kind, backend=backend)  # type: ignore[arg-type]
    x, up = random_input(3, 777, dtype)
    for gate in (up, None, x):
        expected, scratch = prepared(x, gate), x.clone()
        got = prepared(scratch, scratch if gate is x else gate, in_place=True)
        assert torch.equal(got, expected)
        assert (got.data_ptr() == scratch.data_ptr()) == (backend == "cpu")
    merged = torch.cat((x, up), dim=1)
    halves = merged.clone().chunk(2, dim=1)
    assert torch.equal(prepared(*halves, in_place=True), prepared(x, up))
    assert torch.equal(torch.cat(halves, dim=1), merged)


@each_backend
def test_torch_knows_the_op(backend: str) -> None:
    x, up = random_input(3, 10, torch.float32)
    for gate in (up, None):
        torch.library.opcheck(torch.ops.editscore.gated_activation.default, (x, gate, "silu", backend))

    @torch.compile(fullgraph=True, backend="eager")
    def run(x: Tensor, up: Tensor) -> Tensor:
        return gated_activation(x, up, kind="silu", backend=backend) + 1  # type: ignore[arg-type]

    assert torch.equal(run(x, up), gated_activation(x, up, kind="silu", backend=backend) + 1)  # type: ignore[arg-type]
