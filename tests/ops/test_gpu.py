"""Every op's backends on a CUDA device: the attention law in float64, and equal tokens and pages with the CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from activation_cases import random_input
from attention_cases import Case, Paths, attend, decode_paths, make_case, random_paths
from editscore_kernels import append_kv, explain, gated_activation, sample_tokens
from editscore_kernels.shared_prefix_attention import Attended, shared_prefix_attention
from sampling_cases import random_logits, random_mask

pytestmark = pytest.mark.gpu

BACKENDS = ("triton", "cuda")
EPSILON = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
HEADS = [(1, 1), (2, 3), (4, 7), (2, 4), (1, 16)]


def skip_unless_runs(op: str, backend: str) -> None:
    answer = dict(explain(op))[backend]
    if answer != "yes":
        pytest.skip(f"{op} on {backend}: {answer}")


def on_gpu(case: Case) -> Case:
    return replace(case, q=case.q.cuda(), k_pages=case.k_pages.cuda(), v_pages=case.v_pages.cuda())


def run(backend: str, case: Case, num_splits: int = 0) -> Attended:
    arguments = (case.q, case.k_pages, case.v_pages, case.tables)
    return shared_prefix_attention(*arguments, scale=case.scale, num_splits=num_splits, backend=backend)  # type: ignore[arg-type]


@cache
def expected(heads: tuple[int, int], head_dim: int, dtype: torch.dtype, is_decode: bool) -> tuple[Case, torch.Tensor, torch.Tensor, float]:
    """A case in `dtype`, its output and log-sum-exp in float64, and how far a backend may be off: made once for all backends.

    The limit is twice the error of the CPU's reference in the working precision, plus the rounding of one result.
    """
    rng = np.random.default_rng(head_dim)
    ragged = random_paths(rng, num_leaves=3, num_seqs=5, max_leaf_pages=20, max_own=40, max_rows=20)
    case = make_case(decode_paths([528, 16], 4, [1, 63, 64]) if is_decode else ragged, *heads, head_dim, head_dim).to(dtype)
    out, lse = attend(case)
    error = (run("reference", case).out.double() - out).abs().max()
    return case, out, lse, float(2 * error + EPSILON[dtype] * (1 + out.abs().max()))


@pytest.mark.parametrize("dtype", list(EPSILON), ids=str)
@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_is_the_formula(backend: str, head_dim: int, dtype: torch.dtype) -> None:
    skip_unless_runs("shared_prefix_attention", backend)
    first = 2 * (head_dim // 32) + list(EPSILON).index(dtype)
    for heads, is_decode in ((HEADS[first % 5], False), (HEADS[(first + 1) % 5], True)):
        case, out, lse, limit = expected(heads, head_dim, dtype, is_decode)
        got = run(backend, on_gpu(case))
        assert not got.status.any()
        assert (got.out.cpu().double() - out).abs().max() <= limit
        seen = torch.isfinite(lse)
        assert torch.equal(torch.isfinite(got.lse.cpu()), seen)
        torch.testing.assert_close(got.lse.cpu()[seen].double(), lse[seen], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bits_do_not_depend_on_splits_or_neighbours(backend: str) -> None:
    skip_unless_runs("shared_prefix_attention", backend)
    together = decode_paths([1024, 512], 8, [17, 64])
    case = on_gpu(make_case(together, 4, 7, 128, 0).to(torch.bfloat16))
    whole = run(backend, case)
    for num_splits in (1, 2, 7):
        again = run(backend, case, num_splits)
        assert torch.equal(again.out, whole.out)
        assert torch.equal(again.lse, whole.lse)
    tables = case.tables
    for row in (0, 9, 15):
        alone = replace(tables, row_seq=tables.row_seq[row : row + 1], row_lengths=tables.row_lengths[row : row + 1], _tensors={})
        assert torch.equal(run(backend, replace(case, q=case.q[row : row + 1], tables=alone)).out[0], whole.out[row])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_batch_and_a_table_changed_on_the_device(backend: str) -> None:
    skip_unless_runs("shared_prefix_attention", backend)
    empty = on_gpu(make_case(Paths((16,), (0,), (), ()), 2, 4, 64, 0).to(torch.float16))
    assert run(backend, empty).out.shape == (0, 8, 64)
    case = on_gpu(make_case(decode_paths([32, 32], 2, [5]), 2, 4, 64, 0).to(torch.float16))
    good = run(backend, case)
    case.tables.tensors(case.q.device).own_pages[1, 0] = 10**6
    bad = run(backend, case)
    assert bad.status.tolist() == [0, 1, 0, 0]
    assert torch.equal(bad.out[[0, 2, 3]], good.out[[0, 2, 3]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_appended_pages_are_those_of_the_cpu(backend: str, dtype: torch.dtype) -> None:
    skip_unless_runs("append_kv", backend)
    rng = np.random.default_rng(0)
    slots = torch.from_numpy(rng.permutation(16 * 50)[:321].astype(np.int64))
    slots[::7] = -1
    k, v = torch.from_numpy(rng.normal(size=(2, 321, 3, 64))).to(dtype)
    on_cpu = [torch.ones(50, 3, 16, 64, dtype=dtype) for _ in "kv"]
    on_device = [pages.cuda() for pages in on_cpu]
    append_kv(k, v, *on_cpu, slots, backend="reference")
    append_kv(k.cuda(), v.cuda(), *on_device, slots.cuda(), backend=backend)  # type: ignore[arg-type]
    assert all(torch.equal(left.cpu(), right) for left, right in zip(on_device, on_cpu, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_tokens_are_those_of_the_cpu(backend: str, dtype: torch.dtype) -> None:
    skip_unless_runs("sample_tokens", backend)
    for vocabulary, rows in ((1, 12), (777, 12), (1009, 12), (152_064, 3)):
        logits, mask = random_logits(rows, vocabulary).to(dtype), random_mask(rows, vocabulary)
        for top_k, top_p, temperature in ((0, 1.0, 1.0), (20, 0.9, 0.7), (0, 0.9, 0.7), (1, 1.0, 1.0), (0, 1.0, 0.0)):
            for bits in (None, mask):
                filters = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": 42}
                expected = sample_tokens(logits, **filters, request=torch.arange(rows), position=3, mask=bits, backend="reference")
                bits = None if bits is None else bits.cuda()
                keys = torch.arange(rows).cuda()
                got = sample_tokens(logits.cuda(), **filters, request=keys, position=3, mask=bits, backend=backend)
                assert torch.equal(got.token.cpu(), expected.token)
                assert torch.equal(got.status.cpu(), expected.status)
                torch.testing.assert_close(got.logprob.cpu(), expected.logprob, rtol=1e-6, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["silu", "gelu_tanh", "gelu"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_activations_have_the_bits_of_the_cpu(backend: str, kind: str, dtype: torch.dtype) -> None:
    """In rows that are read in vectors and in rows that are not, with a gate in the same matrix and without one."""
    skip_unless_runs("gated_activation", backend)
    for width in (1, 777, 3420, 4864):
        x, up = random_input(5, width, dtype)
        on_device = torch.cat((x, up), dim=1).cuda().chunk(2, dim=1)
        for count in (1, 2):
            expected = gated_activation(*(x, up)[:count], kind=kind, backend="cpu")  # type: ignore[arg-type]
            got = gated_activation(*on_device[:count], kind=kind, backend=backend)  # type: ignore[arg-type]
            assert torch.equal(got.cpu(), expected)
