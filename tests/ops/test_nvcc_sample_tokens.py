"""What nvcc makes of `sample_tokens`: no warning, no spill, no fused multiply-add. It runs nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest
from twin_module import ROOT


def nvcc(*options: object) -> str:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not installed")
    command = [
        compiler,
        "-std=c++20",
        "-O3",
        f"-I{ROOT / 'csrc' / 'include'}",
        *map(str, options),
        ROOT / "csrc" / "cuda" / "sample_tokens.cu",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_nvcc_compiles_it_without_a_warning_or_a_spill(architecture: str, tmp_path: Path) -> None:
    flags = ["-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
    report = nvcc(f"-arch={architecture}", *flags, "-c", "-o", tmp_path / "sample_tokens.o")
    assert report.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 3, report
    registers = [int(line.split("Used ")[1].split()[0]) for line in report.splitlines() if "Used " in line]
    assert len(registers) == 3
    assert max(registers) <= 64, "1,024 threads of 64 registers are all that a multiprocessor has"


@pytest.mark.slow
def test_no_multiplication_is_fused_into_an_addition(tmp_path: Path) -> None:
    nvcc("-arch=sm_90a", "-ptx", "-o", tmp_path / "sample_tokens.ptx")
    ptx = (tmp_path / "sample_tokens.ptx").read_text()
    assert ptx.count("mul.rn.f32") > 100
    assert "fma.rn.f32" not in ptx
