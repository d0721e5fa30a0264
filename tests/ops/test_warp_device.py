"""The lane layer's device build: nvcc accepts every primitive, nothing spills, the instructions are the ones meant; a GPU runs them."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from twin_module import ROOT

NVCC = shutil.which("nvcc")
FLAGS = ("-std=c++20", "-O3", "-Werror", "all-warnings", f"-I{ROOT / 'csrc' / 'cuda'}", f"-I{ROOT / 'tests' / 'cpp'}")
PTXAS = ("-Xptxas", "-v,-warn-spills,-warn-lmem-usage")
KERNELS = ROOT / "tests" / "cpp" / "warp_primitives" / "gpu.cu"
EXAMPLE = """
#include "twin_example/row_sum.cuh"
void launch(const row_sum::Params& p, int rows) { row_sum::row_sum_kernel<<<rows, 32 * row_sum::kWarps, row_sum::kSharedBytes>>>(p); }
"""
# What must be there, and what only sm_90a can have: bulk copies (UBLKCP), boxes of a tensor map (UTMALDG), mbarriers (SYNCS).
INSTRUCTIONS = {
    "sm_80": ("LDGSTS", "LDSM.16.M88.4", "LDSM.16.MT88.4", "HMMA.16816.F32.BF16", "HMMA.16816.F32 ", "BAR.ARV", "MUFU.EX2", "MUFU.LG2"),
    "sm_90a": ("UBLKCP", "UTMALDG.2D", "SYNCS.ARRIVE", "SYNCS.PHASECHK", "FENCE.VIEW.ASYNC", "LDGSTS", "HMMA.16816.F32.BF16", "STS.128"),
}

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="no nvcc: the device build of the lane layer is not compiled here")


def compile_cubin(source: Path, architecture: str, target: Path) -> str:
    command = [NVCC, *FLAGS, *PTXAS, f"-arch={architecture}", "-cubin", source, "-o", target]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def cuobjdump() -> str | None:
    """From the toolkit, or from the copy that Triton brings along."""
    triton = importlib.util.find_spec("triton")
    bundled = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump" if triton and triton.origin else None
    return shutil.which("cuobjdump") or (str(bundled) if bundled and bundled.is_file() else None)


@needs_nvcc
@pytest.mark.parametrize("architecture", INSTRUCTIONS)
def test_every_primitive_compiles_without_a_spill(architecture: str, tmp_path: Path) -> None:
    log = compile_cubin(KERNELS, architecture, tmp_path / "primitives.cubin")
    kernels = re.findall(r"Compiling entry function '(\w+)'", log)
    assert len(kernels) == 8, log
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert frames == [("0", "0", "0")] * len(kernels), log
    assert max(int(count) for count in re.findall(r"Used (\d+) registers", log)) <= 96


@needs_nvcc
@pytest.mark.parametrize("architecture", INSTRUCTIONS)
def test_the_instructions_are_the_ones_meant(architecture: str, tmp_path: Path) -> None:
    tool = cuobjdump()
    if tool is None:
        pytest.skip("no cuobjdump: it comes with the CUDA toolkit and with triton")
    compile_cubin(KERNELS, architecture, tmp_path / "primitives.cubin")
    sass = subprocess.run([tool, "-sass", tmp_path / "primitives.cubin"], capture_output=True, text=True, check=True).stdout
    missing = [name for name in INSTRUCTIONS[architecture] if name not in sass]
    assert not missing, missing


@needs_nvcc
def test_the_example_compiles_without_a_spill(tmp_path: Path) -> None:
    (tmp_path / "example.cu").write_text(EXAMPLE)
    log = compile_cubin(tmp_path / "example.cu", "sm_80", tmp_path / "example.cubin")
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log


@needs_nvcc
@pytest.mark.gpu
def test_the_primitives_on_a_gpu(tmp_path: Path) -> None:
    codes = ("-gencode", "arch=compute_80,code=sm_80", "-gencode", "arch=compute_90a,code=sm_90a")
    subprocess.run([str(part) for part in (NVCC, *FLAGS, *codes, KERNELS, "-o", tmp_path / "primitives")], check=True)
    done = subprocess.run([tmp_path / "primitives"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
