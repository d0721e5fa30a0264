"""`rotary_embedding`: every backend against complex products in float64 and transformers' own function; the same bits anywhere."""

from __future__ import annotations

import math

import pytest
import torch
from editscore_kernels import BackendError, explain, instruction_sets, rotary_embedding, use_instruction_set
from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

BACKENDS = [name for name, answer in explain("rotary_embedding") if answer == "yes"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Arguments = tuple[Tensor, Tensor, Tensor, Tensor]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
each_width = pytest.mark.parametrize("width", [2, 24, 32, 64, 80, 128])
needs_cpu = pytest.mark.skipif("cpu" not in BACKENDS, reason="the compiled module is missing")


def inputs(tokens: int, width: int, dtype: torch.dtype, heads: tuple[int, int] = (6, 2)) -> Arguments:
    """q, k, cos, sin; the two halves of cos and sin have angles of their own, so that taking one for the other shows."""
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(tokens, count, width, generator=generator).to(dtype) for count in heads)
    angles = 7 * torch.randn(tokens, width, generator=generator)
    return q, k, angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(arguments: Arguments, backend: str) -> tuple[Tensor, Tensor]:
    return rotary_embedding(*arguments, backend=backend)  # type: ignore[arg-type]


def bits(pair: tuple[Tensor, Tensor]) -> list[Tensor]:
    return [x.view(torch.int32 if x.dtype == torch.float32 else torch.int16) for x in pair]


@each_backend
def test_a_pair_is_turned_by_its_angle(backend: str) -> None:
    """The product with e^(i angle) of the complex number that element d and element d + D/2 make."""
    q, k, _, _ = inputs(5, 64, torch.float64)
    angles = torch.randn(5, 32, dtype=torch.float64)
    cos, sin = (torch.cat((x, x), 1) for x in (angles.cos(), angles.sin()))
    dtype = torch.float64 if backend == "reference" else torch.float32
    results = rotate((q.to(dtype), k.to(dtype), cos.to(dtype), sin.to(dtype)), backend)
    for x, got in zip((q, k), results, strict=True):
        turned = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angles), angles)[:, None]
        torch.testing.assert_close(got.double(), torch.cat((turned.real, turned.imag), -1), rtol=0, atol=1e-6)


@each_backend
@each_dtype
@each_width
def test_it_has_the_bits_of_transformers(backend: str, dtype: torch.dtype, width: int) -> None:
    arguments = inputs(9, width, dtype)
    q, k, cos, sin = arguments
    theirs = apply_rotary_pos_emb(q.transpose(0, 1)[None], k.transpose(0, 1)[None], cos[None], sin[None])
    for got, expected in zip(rotate(arguments, backend), theirs, strict=True):
        assert got.is_contiguous()
        assert torch.equal(got, expected[0].transpose(0, 1))


@needs_cpu
@each_dtype
@each_width
def test_threads_instruction_sets_rows_and_strides_change_no_bit(dtype: torch.dtype, width: int) -> None:
    arguments = inputs(700, width, dtype)
    torch.set_num_threads(1)
    whole = bits(rotate(arguments, "cpu"))
    wide = [torch.randn(700, x.shape[1] + 1, width + 3).to(dtype)[:, 1:, :width].copy_(x) for x in arguments[:2]]
    wide += [torch.randn(700, width + 3).to(dtype)[:, 3:].copy_(x) for x in arguments[2:]]
    columns = tuple(x.transpose(0, -1).contiguous().transpose(0, -1) for x in arguments)
    for name in instruction_sets():
        with use_instruction_set(name):
            for threads in (1, 2, 3, 7):
                torch.set_num_threads(threads)
                for each in (arguments, tuple(wide), columns):
                    assert all(map(torch.equal, bits(rotate(each, "cpu")), whole))  # type: ignore[arg-type]
            for rows in (slice(0, 1), slice(33, 60)):
                part = bits(rotate(tuple(x[rows] for x in arguments), "cpu"))  # type: ignore[arg-type]
                assert all(torch.equal(got, expected[rows]) for got, expected in zip(part, whole, strict=True))


@needs_cpu
@each_dtype
def test_any_bits_come_out_as_from_torch(dtype: torch.dtype) -> None:
    """NaN, infinities and subnormals among them; which NaN a NaN is is nobody's promise."""
    generator, integers = torch.Generator().manual_seed(1), torch.int32 if dtype == torch.float32 else torch.int16
    info = torch.iinfo(integers)
    shapes = ((300, 3, 48), (300, 1, 48), (300, 48), (300, 48))
    drawn = [torch.randint(info.min, info.max + 1, shape, generator=generator).to(integers).view(dtype) for shape in shapes]
    drawn[2][:100], drawn[3][:100] = 1.0, 0.5  # so that small numbers stay small
    arguments = (drawn[0], drawn[1], drawn[2], drawn[3])
    for name in instruction_sets():
        with use_instruction_set(name):
            for got, expected in zip(rotate(arguments, "cpu"), rotate(arguments, "reference"), strict=True):
                assert torch.equal(got.isnan(), expected.isnan())
                assert torch.equal(*bits((got.nan_to_num(0.0, math.inf, -math.inf), expected.nan_to_num(0.0, math.inf, -math.inf))))


@each_backend
def test_no_tokens_and_no_heads(backend: str) -> None:
    q, k, cos, sin = inputs(4, 32, torch.float32)
    assert [x.shape for x in rotate((q[:0], k[:0], cos[:0], sin[:0]), backend)] == [(0, 6, 32), (0, 2, 32)]
    nothing, rotated = rotate((q[:, :0], k, cos, sin), backend)
    assert nothing.shape == (4, 0, 32)
    assert torch.equal(rotated, rotate((q, k, cos, sin), backend)[1])


@each_backend
def test_torch_knows_the_op(backend: str) -> None:
    q, k, cos, sin = inputs(4, 32, torch.float32)
    torch.library.opcheck(torch.ops.editscore.rotary_embedding.default, (q, k, cos, sin, backend))
    compiled = torch.compile(lambda q: rotate((q, k, cos, sin), backend)[0] + 1, fullgraph=True, backend="eager")
    assert torch.equal(compiled(q), rotate((q, k, cos, sin), backend)[0] + 1)
    assert not rotate((q.requires_grad_(), k, cos, sin), backend)[0].requires_grad


def test_what_does_not_fit_is_named() -> None:
    q, k, cos, sin = inputs(4, 32, torch.float32)
    for arguments, message in (
        ((q[0], k, cos, sin), "q: expected"),
        ((q.int(), k, cos, sin), "q: expected"),
        ((q[..., :31], k[..., :31], cos[:, :31], sin[:, :31]), r"q: expected .* D even"),
        ((q, k[:3], cos, sin), r"k: expected \[4, Hkv, 32\]"),
        ((q, k, cos[:, :16], sin), r"cos: expected \[4, 32\]"),
        ((q, k, cos, sin[:3]), r"sin: expected \[4, 32\]"),
        ((q, k, cos, sin.double()), "sin: torch.float64 on cpu, q is torch.float32"),
        ((q, k.bfloat16(), cos, sin), "k: torch.bfloat16 on cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            rotary_embedding(*arguments)
    with pytest.raises(BackendError, match=r"rotary_embedding cannot run on backend cpu: .*float64: the reference only"):
        rotate((q.double(), k.double(), cos.double(), sin.double()), "cpu")
