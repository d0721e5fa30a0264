"""The batch-invariant layers compiled for sm_80, sm_90 and sm_100: nothing spills, tensor cores and asynchronous copies are used, no TF32.

No GPU is needed. `make test` compiles for sm_90, `make test-slow` for the others too.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed (`pip install editscore[gpu]`)")
if os.environ.get("TRITON_INTERPRET", "0") != "0":
    pytest.skip("TRITON_INTERPRET is set: kernels are interpreted in this process, not compiled", allow_module_level=True)

from editscore_kernels._triton import invariant_linear, rms_norm
from triton_compiling import ARCHITECTURES, SHARED_LIMIT, Compiled, compile_kernel

on_every_architecture = pytest.mark.parametrize(
    "architecture", [pytest.param(a, marks=() if a == 90 else pytest.mark.slow) for a in ARCHITECTURES]
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # compiled anew, whatever lies in the user's cache


def compile_linear(dtype: str, is_wide: bool, architecture: int, *, is_whole: bool = True) -> Compiled:
    config = invariant_linear.CONFIGS[dtype != "fp32", is_wide]
    types = {f"{name}_ptr": f"*{dtype}" for name in ("x", "weight", "bias", "out")}
    constants = {"ROWS": config.rows, "COLUMNS": config.columns, "WIDTH": config.width, "ROWS_OF_TILES": invariant_linear.ROWS_OF_TILES}
    constants |= {"IS_WHOLE": is_whole, "HAS_BIAS": True, "UPCAST_DOT": False}
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages, "enable_fp_fusion": True}
    return compile_kernel(invariant_linear._invariant_linear_fwd_kernel, types, constants, architecture, **options)


def assert_it_fits(compiled: Compiled, architecture: int) -> None:
    assert compiled.stack == 0, f"{compiled.stack} bytes of local memory: registers were spilled"
    assert compiled.registers <= 255
    assert compiled.shared <= SHARED_LIMIT[architecture]


@on_every_architecture
@pytest.mark.parametrize("is_wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32", pytest.param("fp16", marks=pytest.mark.slow)])
def test_linear(dtype: str, is_wide: bool, architecture: int) -> None:
    compiled = compile_linear(dtype, is_wide, architecture)
    print("registers, bytes of shared memory:", compiled.registers, compiled.shared)
    assert_it_fits(compiled, architecture)
    assert re.search(r"cp\.async", compiled.ptx), "the next blocks are fetched while one is multiplied"
    if dtype == "fp32":
        assert "tf32" not in compiled.ptx and "fma.rn.f32" in compiled.ptx
    else:
        assert re.search(r"mma\.sync|wgmma|tcgen05\.mma", compiled.ptx)
    assert not re.search(r"\b(atom|red)\.", compiled.ptx), "a sum that others add to has no order"


@pytest.mark.slow
@on_every_architecture
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_width_that_is_no_multiple_of_a_block(dtype: str, architecture: int) -> None:
    assert_it_fits(compile_linear(dtype, False, architecture, is_whole=False), architecture)


@on_every_architecture
@pytest.mark.parametrize("width", [128, 3584, pytest.param(8192, marks=pytest.mark.slow), pytest.param(16384, marks=pytest.mark.slow)])
def test_norm(width: int, architecture: int) -> None:
    types = {f"{name}_ptr": "*bf16" for name in ("x", "weight", "out")} | {"epsilon": "fp32"}
    padded = 1 << (width - 1).bit_length()
    options = {"num_warps": rms_norm.warps_of(width)}
    assert_it_fits(compile_kernel(rms_norm._rms_norm_fwd_kernel, types, {"WIDTH": padded}, architecture, **options), architecture)
