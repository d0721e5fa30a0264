"""What nvcc makes of `gated_activation`: no warning, no spill, no fused multiply-add, exact divisions. It runs nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from twin_module import ROOT

NUM_KERNELS = 18  # 3 kinds x 3 types x rows that can be read in vectors or not

pytestmark = pytest.mark.slow


def nvcc(*options: object) -> str:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not installed")
    source = ROOT / "csrc" / "cuda" / "gated_activation.cu"
    command = [compiler, "-std=c++20", "-O3", f"-I{ROOT / 'csrc' / 'include'}", *map(str, options), source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_nvcc_compiles_it_without_a_warning_or_a_spill(architecture: str, tmp_path: Path) -> None:
    flags = ["-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
    report = nvcc(f"-arch={architecture}", *flags, "-c", "-o", tmp_path / "gated_activation.o")
    registers = [int(number) for number in re.findall(r"Used (\d+) registers", report)]
    assert len(registers) == NUM_KERNELS
    assert max(registers) <= 40, "51 warps of 40 registers fit a multiprocessor"
    assert report.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") >= NUM_KERNELS


def test_every_operation_is_rounded_on_its_own(tmp_path: Path) -> None:
    nvcc("-arch=sm_90a", "-ptx", "-o", tmp_path / "gated_activation.ptx")
    ptx = (tmp_path / "gated_activation.ptx").read_text()
    assert ptx.count("mul.rn.f32") > 100
    assert "div.rn.f32" in ptx
    assert not re.search(r"fma\.\w+\.f32|div\.(approx|full)|\.ftz", ptx)
    assert "ld.global.v4" in ptx or "ld.global.nc.v4" in ptx
    assert "st.global.v4" in ptx
