"""The CUDA kernels of `shared_prefix_attention`, sm_80 and sm_90a, on their host twin: the formula, the bits, bad tables.

Never run on a GPU here: what the twin cannot see is listed in docs/host-twin.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from attention_backends import run
from attention_cases import Case, Paths, attend, decode_paths, make_case, random_paths, redivided
from cuda_attention import ARCHITECTURES, CONFIGS, PAGE, Config, run_twin
from editscore_kernels.page_tables import PageTables, TableTensors
from hypothesis import given, settings
from hypothesis import strategies as st
from twin_module import ROOT, sanitizer_environment

EPSILON = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
ON_BOTH = pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: f"sm_{arch}")
IN_EACH = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.head_dim}x{c.warps}-{str(c.dtype)[6:]}")
HEADS = [(1, 1), (2, 3), (1, 7), (2, 4), (1, 16), (3, 2)]


def check(arch: int, config: Config, case: Case, num_splits: int, seed: int) -> None:
    """The law of all backends: at most twice the error of the reference in the working precision, plus the rounding of one result."""
    out, lse = attend(case)
    floor = EPSILON[config.dtype] * (1 + out.abs().max() if out.numel() else 1)
    limit = 2 * (run("reference", case).out.double() - out).abs().max() + floor if out.numel() else floor
    got, stats = run_twin(arch, config, case, num_splits=num_splits, seed=seed)
    assert not got.status.any()
    assert out.numel() == 0 or (got.out.double() - out).abs().max() <= limit
    seen = torch.isfinite(lse)
    assert torch.equal(torch.isfinite(got.lse), seen)
    torch.testing.assert_close(got.lse[seen].double(), lse[seen], rtol=1e-5, atol=1e-5)
    assert max(stats.ldmatrix_ways, stats.load_ways, stats.store_ways) <= 1, "shared memory is used without bank conflicts"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(ARCHITECTURES), st.sampled_from(CONFIGS), st.sampled_from(HEADS), st.sampled_from([1, 2, 5]))
def test_the_kernels_are_the_formula(seed: int, arch: int, config: Config, heads: tuple[int, int], num_splits: int) -> None:
    rng = np.random.default_rng(seed)
    paths = random_paths(rng, num_leaves=3, num_seqs=int(rng.integers(1, 6)), max_leaf_pages=20, max_own=90, max_rows=20)
    check(arch, config, make_case(paths, *heads, config.head_dim, seed).to(config.dtype), num_splits, seed)


@ON_BOTH
@IN_EACH
def test_rings_of_stages_wrap(arch: int, config: Config) -> None:
    """Three stages: paths of 2, 3, 4 and 7 tiles, from the leaf alone and with a part that each sequence has to itself."""
    for seed, (tiles, suffix) in enumerate(itertools.product((2, 3, 4, 7), (0, 200))):
        check(arch, config, make_case(decode_paths([64 * tiles], 2, [suffix]), 1, 3, config.head_dim, seed).to(config.dtype), 1, seed)


@ON_BOTH
@pytest.mark.parametrize(("heads", "config"), [((2, 7), CONFIGS[3]), ((2, 4), CONFIGS[3]), ((2, 3), CONFIGS[0])], ids=["7", "4", "nano"])
def test_shapes_of_real_models(arch: int, heads: tuple[int, int], config: Config) -> None:
    check(arch, config, make_case(decode_paths([777, 16], 4, [1, 64, 33]), *heads, config.head_dim, 1).to(config.dtype), 1, 1)


@ON_BOTH
@IN_EACH
def test_a_row_is_bitwise_the_same_in_any_company_for_any_split_and_schedule(arch: int, config: Config) -> None:
    rng = np.random.default_rng(5)
    case = make_case(decode_paths([600, 40, 0, 300], 3, [1, 17, 300, 5]), 1, 3, config.head_dim, 5).to(config.dtype)
    together = run_twin(arch, config, case)[0]
    for number, splits in enumerate((1, 2, 7)):
        got = run_twin(arch, config, case, num_splits=splits, seed=number + 2)[0]
        assert torch.equal(got.out, together.out)
        assert torch.equal(got.lse, together.lse)
    for rows in (rng.permutation(12), np.arange(0, 12, 5), np.asarray([7])):
        got = run_twin(arch, config, some_rows(case, rows))[0]
        assert torch.equal(got.out, together.out[torch.from_numpy(rows)])
        assert torch.equal(got.lse, together.lse[torch.from_numpy(rows)])


@ON_BOTH
@IN_EACH
def test_the_division_between_leaf_and_own_pages_changes_no_bit(arch: int, config: Config) -> None:
    """Nor does it matter how many of a sequence's tokens come in one call, as in the prefill of a tree of prompts."""
    paths = Paths((304, 64), (0, 1, -1), (0,) * 12 + (1, 2), (*range(251, 263), 400, 333))
    case = make_case(paths, 1, 4, config.head_dim, 7).to(config.dtype)
    whole = run_twin(arch, config, case)[0]
    for pages in ([0, 0, 0], [16, 16, 16], [5, 3, 20], [17, 1, 2], [19, 28, 20]):
        assert torch.equal(run_twin(arch, config, redivided(case, np.asarray(pages)), num_splits=2)[0].out, whole.out)
    for rows in (np.arange(7), np.arange(11, 12), np.arange(5, 12)):
        assert torch.equal(run_twin(arch, config, some_rows(case, rows))[0].out, whole.out[torch.from_numpy(rows)])


@pytest.mark.parametrize("config", CONFIGS[:2], ids=lambda c: str(c.head_dim))
def test_both_kernels_are_the_same_bits(config: Config) -> None:
    case = make_case(decode_paths([300, 64], 3, [1, 70]), 2, 3, config.head_dim, 3).to(config.dtype)
    assert torch.equal(run_twin(80, config, case)[0].out, run_twin(90, config, case)[0].out)


def some_rows(case: Case, rows: np.ndarray) -> Case:
    """The case with these rows only, in this order, over sequences renumbered in the order in which they come."""
    t = case.tables
    seqs, index = np.unique(t.row_seq[rows], return_inverse=True)
    tables = PageTables(
        t.leaf_pages, t.leaf_lengths, t.own_pages[seqs], t.seq_leaf[seqs], index.astype(np.int32), t.row_lengths[rows], pages=t.pages
    )
    return dataclasses.replace(case, q=case.q[torch.from_numpy(rows)], tables=tables)


@ON_BOTH
@pytest.mark.parametrize("num_splits", [1, 3])
def test_edges(arch: int, num_splits: int) -> None:
    """No rows, only padding, a row that sees nothing, a leaf alone, strided queries, scores that would overflow without the maximum."""
    config = CONFIGS[0]
    empty = make_case(Paths((), (), (), ()), 2, 2, 32, 0).to(config.dtype)
    assert run_twin(arch, config, empty, num_splits=num_splits)[0].out.shape == (0, 4, 32)
    padding = make_case(Paths((0, 32), (0, -1, 1), (-1, 0, 1, 2, -1), (0, 0, 0, 0, 0)), 2, 2, 32, 0).to(config.dtype)
    got = run_twin(arch, config, padding, num_splits=num_splits)[0]
    sees = torch.tensor([False, False, False, True, False])
    assert torch.equal(got.out.abs().sum((1, 2)) > 0, sees)
    assert bool((got.lse[~sees] == -torch.inf).all())
    assert not got.status.any()
    case = make_case(decode_paths([40, 300], 3, [3, 20]), 2, 2, 32, 1).to(config.dtype)
    strided = dataclasses.replace(case, q=case.q.transpose(0, 1).contiguous().transpose(0, 1))
    plain = run_twin(arch, config, case, num_splits=num_splits)[0]
    assert torch.equal(run_twin(arch, config, strided, num_splits=num_splits)[0].out, plain.out)
    check(arch, config, dataclasses.replace(case, q=case.q * 300, scale=1.0), num_splits, 1)


def faulty_rows(t: TableTensors, num_pages: int) -> list[int]:
    """The status of every row by looking at what its tables name, entry by entry."""
    status = []
    for seq, length in zip(t.row_seq.tolist(), t.row_lengths.tolist(), strict=True):
        if seq == -1:
            status.append(0)
            continue
        if not 0 <= seq < len(t.seq_leaf) or not -1 <= int(t.seq_leaf[seq]) < len(t.leaf_lengths):
            status.append(1)
            continue
        leaf = int(t.seq_leaf[seq])
        leaf_length = int(t.leaf_lengths[leaf]) if leaf >= 0 else 0
        widths = (t.leaf_pages.shape[1] * PAGE, t.own_pages.shape[1] * PAGE)
        is_bad = not 0 <= leaf_length <= widths[0] or leaf_length % PAGE != 0 or not 0 <= length <= widths[1]
        seen = t.leaf_pages[leaf, : min(max(leaf_length, 0), widths[0]) // PAGE].tolist() if leaf >= 0 else []
        seen += t.own_pages[seq, : -(-min(max(length, 0), widths[1]) // PAGE)].tolist()
        status.append(int(is_bad or any(not 0 <= page < num_pages for page in seen)))
    return status


BAD_ENTRIES = [
    *[("own_pages", (2, 0), bad) for bad in (-1, 10**6, -(2**31), 2**31 - 1)],
    *[("own_pages", (0, 3), 10**6), ("leaf_pages", (0, 7), 99_999), ("leaf_pages", (1, 0), -3)],
    *[("row_lengths", (1,), 10**6), ("row_lengths", (3,), -5), ("row_lengths", (7,), 2**31 - 1)],
    *[("row_seq", (2,), 50), ("row_seq", (2,), 2**31 - 1), ("row_seq", (0,), -2), ("row_seq", (4,), -1)],
    *[("seq_leaf", (1,), 9), ("seq_leaf", (1,), -4), ("seq_leaf", (5,), 2**31 - 1)],
    *[("leaf_lengths", (0,), 10**6), ("leaf_lengths", (1,), 17), ("leaf_lengths", (0,), -16)],
]


@ON_BOTH
@pytest.mark.parametrize("num_splits", [1, 2])
def test_bad_tables_are_told_by_row_and_nothing_is_read_outside(arch: int, num_splits: int) -> None:
    """The twin faults at every access outside of a tensor; rows that name nothing wrong keep their bits."""
    config = CONFIGS[0]
    case = make_case(decode_paths([300, 100], 4, [60, 20, 33]), 2, 3, 32, 2).to(config.dtype)
    sound = case.tables.tensors(torch.device("cpu"))
    plain = run_twin(arch, config, case, num_splits=num_splits)[0]
    for name, place, bad in BAD_ENTRIES:
        tables = TableTensors(*(table.clone() for table in sound))
        getattr(tables, name)[place] = bad
        got = run_twin(arch, config, case, tables=tables, num_splits=num_splits)[0]
        expected = faulty_rows(tables, len(case.k_pages))
        assert got.status.tolist() == expected, (name, place, bad)
        keeps = (torch.tensor(expected) == 0) & (tables.row_seq == sound.row_seq)
        assert keeps.any()
        assert torch.equal(got.out[keeps], plain.out[keeps]), (name, place, bad)


@ON_BOTH
@pytest.mark.parametrize("name", ["group_rows", "group_starts"])
def test_bad_groups_read_nothing_outside(arch: int, name: str) -> None:
    config = CONFIGS[0]
    case = make_case(decode_paths([300, 100, 50], 3, [60, 20, 33]), 1, 3, 32, 2).to(config.dtype)
    for seed in range(6):
        tables = TableTensors(*(table.clone() for table in case.tables.tensors(torch.device("cpu"))))
        table = getattr(tables, name)
        rng = np.random.default_rng(seed)
        # No row twice: two blocks would write it, which is a race and no read outside.
        table[int(rng.integers(0, len(table)))] = int(rng.choice([-1, -(2**31), 10**6, 2**31 - 1]))
        if name == "group_starts":
            table[1:] = torch.maximum(table[1:], table[:-1])
        run_twin(arch, config, case, tables=tables, seed=seed)


@pytest.mark.slow
def test_these_tests_pass_under_address_and_undefined_sanitizers() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", Path(__file__)]
    done = subprocess.run(command, env=sanitizer_environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
