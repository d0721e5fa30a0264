"""Bugs that are switched on in the twin of the CUDA attention kernels, one at a time: what is tested must notice each of them.

`mutant(n)` in csrc/cuda/shared_prefix_attention*.cuh says what each bug is; on the device it is a constant false.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attention_cases import Case, Paths, attend, decode_paths, make_case, redivided
from cuda_attention import ARCHITECTURES, CONFIGS, Config, run_twin, twin
from editscore_kernels.page_tables import TableTensors
from editscore_kernels.shared_prefix_attention import Attended
from torch import Tensor
from twin_module import ROOT

# 7 names pages that are not there: the tensor map of sm_90a reads them as zeros.
ONLY_SM80, ONLY_SM90 = (7, *range(21, 25)), range(25, 34)
MUTANTS = [
    (arch, mutant)
    for mutant in range(1, 34)
    for arch in ARCHITECTURES
    if not (mutant in ONLY_SM80 and arch == 90) and not (mutant in ONLY_SM90 and arch == 80)
]


@dataclass(frozen=True)
class Trial:
    """A launch and what must come of it. Rows of `ignored` may hold anything."""

    config: Config
    case: Case
    num_splits: int = 1
    tables: TableTensors | None = None
    status: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()

    def run(self, arch: int, num_splits: int, **options: int) -> tuple[Attended, object]:
        return run_twin(arch, self.config, self.case, tables=self.tables, num_splits=num_splits, **options)

    @functools.cached_property
    def exact(self) -> Tensor:
        return attend(self.case)[0]


@functools.cache
def trials() -> tuple[Trial, ...]:
    small, wide = CONFIGS[0], CONFIGS[3]
    decode = make_case(decode_paths([560, 100], 8, [60, 20, 33]), 1, 3, 32, 0).to(small.dtype)
    whole = make_case(Paths((304, 64), (0, 1, -1), (*(0,) * 5, 1, 2), (*range(252, 257), 400, 336)), 1, 3, 32, 1).to(small.dtype)
    full_tables = redivided(whole, np.asarray([3, 3, 3]))  # the path of the longest sequence fills its table
    wide_case = make_case(decode_paths([64, 200], 2, [10, 150]), 1, 2, 128, 2).to(wide.dtype)
    return (
        Trial(small, decode),
        Trial(small, decode, num_splits=2),
        Trial(small, whole, num_splits=3),
        Trial(small, full_tables),
        Trial(wide, wide_case),
        neighbour_of_infinity(small),
        cancelling_chunks(small),
        *(bad_entry(small, *bad) for bad in (("row_seq", 1, 4), ("row_lengths", 3, 2**20), ("own_pages", (2, 0), 10**6))),
    )


def neighbour_of_infinity(config: Config) -> Trial:
    """Row 0's own values are so large that sums of them are infinite; row 1 is in the same tile of the tensor core."""
    case = make_case(decode_paths([256], 2, [64]), 1, 1, 32, 4).to(config.dtype)
    v_pages = case.v_pages.clone()
    v_pages[torch.from_numpy(case.tables.own_pages[0, :4]).long()] = 3e38
    return Trial(config, replace(case, v_pages=v_pages), ignored=(0,))


def cancelling_chunks(config: Config) -> Trial:
    """The second chunk takes back what the first one brings, so that the order in which chunks are merged is seen in the result."""
    case = make_case(decode_paths([768], 2, [5]), 1, 1, 32, 5)
    pages = torch.from_numpy(case.tables.leaf_pages[0, :32]).long()
    v_pages = case.v_pages.clone()
    v_pages[pages[:16]] *= 1000
    v_pages[pages[16:]] = -v_pages[pages[:16]]
    return Trial(config, replace(case, q=case.q * 0, v_pages=v_pages).to(config.dtype), num_splits=4)


def bad_entry(config: Config, name: str, place: int | tuple[int, int], bad: int) -> Trial:
    """One entry of the tables is wrong; it belongs to the row of the same number, in a batch of one prompt and four passes."""
    case = make_case(decode_paths([80], 4, [30, 9]), 1, 3, 32, 3).to(config.dtype)
    tables = TableTensors(*(table.clone() for table in case.tables.tensors(torch.device("cpu"))))
    getattr(tables, name)[place] = bad
    row = place if isinstance(place, int) else place[0]
    return Trial(config, case, 1, tables, tuple(int(r == row) for r in range(4)), (row,))


@functools.cache
def clean_bits(arch: int, trial: Trial) -> Attended:
    return trial.run(arch, 1)[0]


def complaint(arch: int, trial: Trial, seed: int, mutant: int) -> str | None:
    """What the tests of test_cuda_attention.py would say of this launch."""
    try:
        got, stats = trial.run(arch, trial.num_splits, seed=seed, mutant=mutant)
    except (twin().Fault, AssertionError) as error:
        return str(error)
    kept = [row for row in range(len(got.status)) if row not in trial.ignored]
    if got.status.tolist() != list(trial.status or [0] * len(got.status)):
        return f"status {got.status.tolist()}"
    error = float((got.out.double() - trial.exact)[kept].abs().max())
    if not error <= 0.02:  # twenty times what is measured without a bug
        return f"off by {error}"
    clean = clean_bits(arch, trial)
    if not (torch.equal(got.out[kept], clean.out[kept]) and torch.equal(got.lse[kept], clean.lse[kept])):
        return "other bits than without splits"
    ways = max(stats.ldmatrix_ways, stats.load_ways, stats.store_ways)
    return f"{ways} words of a bank" if ways > 1 else None


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_without_a_bug_there_is_no_complaint(arch: int) -> None:
    for trial in trials():
        for seed in range(1, 4):
            assert complaint(arch, trial, seed, 0) is None


@pytest.mark.parametrize(("arch", "mutant"), MUTANTS)
def test_every_bug_is_noticed(arch: int, mutant: int) -> None:
    assert any(complaint(arch, trial, 1, mutant) for trial in trials())


def test_every_bug_of_the_sources_is_tried() -> None:
    sources = [path.read_text() for path in Path(ROOT / "csrc" / "cuda").glob("shared_prefix_attention*.cuh")]
    named = {n for n in range(100) if any(f"mutant({n})" in source for source in sources)}
    assert named == {mutant for _, mutant in MUTANTS}
