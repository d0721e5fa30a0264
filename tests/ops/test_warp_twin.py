"""The example of docs/host-twin.md, driven from Python as the twin of a real op is."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from twin_module import ROOT, load_twin, sanitizer_environment

SOURCES = (ROOT / "tests" / "cpp" / "twin_example" / "row_sum_twin.cpp",)


@pytest.fixture(scope="module")
def twin() -> ModuleType:
    return load_twin("row_sum", sources=SOURCES)


def row_sum(twin: ModuleType, rows: int, columns: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's sums and the exact ones."""
    x = np.random.default_rng(columns).standard_normal((rows, columns), dtype=np.float32)
    out = np.full(rows, np.nan, dtype=np.float32)
    twin.row_sum(x.ctypes.data, rows, columns, out.ctypes.data, **options)
    return out, x.astype(np.float64).sum(axis=1)


@pytest.mark.parametrize("columns", [0, 4, 500, 512, 516, 1536, 2048])
@pytest.mark.parametrize("seed", range(3))
def test_the_example_adds_rows(twin: ModuleType, columns: int, seed: int) -> None:
    got, exact = row_sum(twin, 3, columns, seed=seed)
    np.testing.assert_allclose(got, exact, atol=2e-4)  # 2,048 terms of size 1, each rounded to 2^-24 of partial sums below 100


@pytest.mark.parametrize(("mutant", "message"), [(1, "race: |in flight|nobody has written"), (2, r"shared address 4112 .* is outside of")])
def test_its_bugs_are_found_whatever_the_schedule(twin: ModuleType, mutant: int, message: str) -> None:
    for seed in range(8):
        with pytest.raises(twin.Fault, match=message) as caught:
            row_sum(twin, 2, 1536, seed=seed, mutant=mutant)
        assert re.search(r"block \d warp \d at row_sum.cuh:\d+", str(caught.value))


def test_a_fault_leaves_nothing_behind(twin: ModuleType) -> None:
    with pytest.raises(twin.Fault):
        row_sum(twin, 2, 1536, mutant=1)
    got, exact = row_sum(twin, 2, 1536)
    np.testing.assert_allclose(got, exact, atol=2e-4)


def test_an_endless_loop_ends(twin: ModuleType) -> None:
    with pytest.raises(twin.Fault, match="more than 50 operations"):
        row_sum(twin, 2, 1536, max_operations=50)


def test_a_wrong_option_is_named(twin: ModuleType) -> None:
    with pytest.raises(TypeError, match="sed"):
        row_sum(twin, 2, 8, sed=1)


def test_shared_memory_is_read_without_bank_conflicts(twin: ModuleType) -> None:
    x = np.zeros((1, 1024), dtype=np.float32)
    out = np.zeros(1, dtype=np.float32)
    stats = twin.row_sum(x.ctypes.data, 1, 1024, out.ctypes.data)
    assert (stats.load_ways, stats.store_ways) == (1, 1)


def test_the_code_in_the_docs_is_the_code_that_is_tested() -> None:
    blocks = re.findall(r"```cpp\n(.*?)\n```", (ROOT / "docs" / "host-twin.md").read_text(), re.DOTALL)
    sources = "".join(path.read_text() for path in sorted(SOURCES[0].parent.iterdir()))
    assert len(blocks) == 3
    assert [block for block in blocks if block not in sources] == []


@pytest.mark.slow
def test_these_tests_pass_under_address_and_undefined_sanitizers() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", Path(__file__)]
    done = subprocess.run(command, env=sanitizer_environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
