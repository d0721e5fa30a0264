"""An element of `gated_activation` depends on its own inputs only: the same bits at any place, in any company, on any threads."""

from __future__ import annotations

import pytest
import torch
from activation_cases import DTYPES, KINDS, random_input, torch_act
from editscore_kernels import explain, gated_activation, instruction_sets, use_instruction_set
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

THREADS = (1, 2, 3, 5, 7)
BACKENDS = [name for name, answer in explain("gated_activation") if answer == "yes"]
needs_cpu = pytest.mark.skipif("cpu" not in BACKENDS, reason="the compiled module is missing")


def bits(x: Tensor) -> Tensor:
    """NaN equals itself, and 0 differs from -0."""
    return x.view(torch.int32 if x.dtype == torch.float32 else torch.int16)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_and_rows_change_no_bit(backend: str, kind: str, dtype: torch.dtype) -> None:
    """Wide enough that seven threads are used; 3420 is no multiple of a vector's length."""
    x, up = random_input(160, 3420, dtype)
    torch.set_num_threads(1)
    whole = gated_activation(x, up, kind=kind, backend=backend)  # type: ignore[arg-type]
    for threads in THREADS:
        torch.set_num_threads(threads)
        assert torch.equal(gated_activation(x, up, kind=kind, backend=backend), whole)  # type: ignore[arg-type]
        for rows in (slice(0, 1), slice(7, 20), slice(41, 118)):
            assert torch.equal(gated_activation(x[rows], up[rows], kind=kind, backend=backend), whole[rows])  # type: ignore[arg-type]


@st.composite
def places(draw: st.DrawFn) -> tuple[int, int, int, int, int, int, bool]:
    """Rows, columns, the row stride's surplus, the first element's offset in its storage, threads, instruction set, gate."""
    return (
        draw(st.integers(1, 9)),
        draw(st.integers(1, 200)),
        draw(st.integers(0, 70)),
        draw(st.integers(0, 65)),
        draw(st.sampled_from(THREADS)),
        draw(st.integers(0, len(instruction_sets()) - 1)),
        draw(st.booleans()),
    )


@needs_cpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=60, deadline=None)
@given(place=places(), seed=st.integers(0, 2**31 - 1))
def test_an_element_has_the_bits_that_it_has_alone(
    kind: str, dtype: torch.dtype, place: tuple[int, int, int, int, int, int, bool], seed: int
) -> None:
    """Any bits as inputs, NaN and subnormals too, each element also at the start of a row of its own."""
    rows, width, surplus, offset, threads, number, is_gated = place
    generator = torch.Generator().manual_seed(seed)
    integers = torch.int32 if dtype == torch.float32 else torch.int16
    info = torch.iinfo(integers)
    storage = torch.randint(info.min, info.max + 1, (2, offset + rows * (width + surplus)), generator=generator).to(integers).view(dtype)
    x, up = (part[offset:].view(rows, width + surplus)[:, :width] for part in storage)
    gate = up if is_gated else None
    torch.set_num_threads(threads)
    with use_instruction_set(instruction_sets()[number]):
        got = gated_activation(x, gate, kind=kind, backend="cpu")  # type: ignore[arg-type]
    alone = gated_activation(x.reshape(-1, 1), up.reshape(-1, 1) if is_gated else None, kind=kind, backend="cpu")  # type: ignore[arg-type]
    assert torch.equal(bits(got).flatten(), bits(alone).flatten())


@needs_cpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_all_instruction_sets_give_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    """Every 16-bit number; of float32 every 509th pattern of bits, 8.4 million."""
    count = 2**32 // 509 if dtype == torch.float32 else 2**16
    step = 509 if dtype == torch.float32 else 1
    patterns = torch.arange(count, dtype=torch.int64) * step
    x = patterns.to(torch.uint32).view(torch.float32) if step > 1 else patterns.to(torch.uint16).view(dtype)
    results = []
    for name in instruction_sets():
        with use_instruction_set(name):
            results.append(bits(gated_activation(x[None], kind=kind, backend="cpu")))  # type: ignore[arg-type]
    assert all(torch.equal(result, results[0]) for result in results)


def test_torchs_own_functions_do_not_keep_this() -> None:
    """Why this op exists: torch's float32 SiLU on the CPU gives a row other bits in another company. If this fails, that has changed."""
    x, _ = random_input(61, 3420, torch.float32)
    torch.set_num_threads(1)
    whole = torch_act(x, "silu")
    alone = torch.cat([torch_act(row[None], "silu") for row in x])
    if torch.equal(whole, alone):
        pytest.skip("this torch keeps a row's bits on one thread")
    assert not torch.equal(whole, alone)
