"""nvcc compiles every production configuration of the CUDA attention for sm_80 and sm_90a: no spills, no local memory, the right
instructions. That is a build and no run: the kernels have never run on a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from twin_module import ROOT

NUM_CONFIGS = 18  # 3 head sizes x 3 numbers of warps x 2 types

pytestmark = pytest.mark.slow


def nvcc() -> str:
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("nvcc is not on the path")
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    """The cubin of an architecture and what ptxas said of it."""
    folder, done = tmp_path_factory.mktemp("cubin"), {}

    def compile_once(arch: str) -> tuple[Path, str]:
        if arch not in done:
            source, cubin = ROOT / "csrc" / "cuda" / "shared_prefix_attention.cu", folder / f"{arch}.cubin"
            flags = ["-std=c++20", "-O3", f"-arch=sm_{arch}", "-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
            command = [nvcc(), *flags, f"-I{ROOT / 'csrc' / 'include'}", "-cubin", "-o", cubin, source]
            ran = subprocess.run(command, capture_output=True, text=True)
            assert ran.returncode == 0, ran.stdout + ran.stderr
            done[arch] = (cubin, ran.stdout + ran.stderr)
        return done[arch]

    return compile_once


@pytest.mark.parametrize(("arch", "kernel"), [("80", "sm80"), ("90a", "sm90")])
def test_every_configuration_fits(compiled: Callable[[str], tuple[Path, str]], arch: str, kernel: str) -> None:
    _, said = compiled(arch)
    entries = re.findall(
        r"Compiling entry function '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers", said, re.S
    )
    used = {name: tuple(map(int, numbers)) for name, *numbers in entries if kernel in name}
    assert len(used) == NUM_CONFIGS
    # 255 is what an instruction can name; a block of 4 or 5 warps has 65,536 to share.
    assert all(stack == 0 and spills == 0 and 64 < registers <= 255 for stack, spills, registers in used.values()), used


@pytest.mark.parametrize(
    ("arch", "present", "absent"),
    [("80", ("HMMA.16816", "LDSM", "LDGSTS"), ("UTMALDG",)), ("90a", ("HMMA.16816", "LDSM", "UTMALDG.2D", "SYNCS"), ("LDGSTS",))],
)
def test_the_machine_code_has_the_instructions(
    compiled: Callable[[str], tuple[Path, str]], arch: str, present: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    """Copies of the tensor map are UTMALDG (UBLKCP would be those without one), cp.async is LDGSTS, local memory LDL and STL."""
    tool = disassembler()
    if tool is None:
        pytest.skip("neither nvdisasm nor triton's wheel with one is installed")
    ran = subprocess.run([tool, compiled(arch)[0]], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for instruction in present:
        assert instruction in ran.stdout, instruction
    for instruction in (*absent, "LDL", "STL"):
        assert not re.search(rf"\b{instruction}\b", ran.stdout), instruction


def disassembler() -> str | None:
    """nvdisasm of the toolkit, or the one in triton's wheel."""
    try:
        import triton
    except ImportError:
        return shutil.which("nvdisasm")
    bundled = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    return shutil.which("nvdisasm") or (str(bundled) if bundled.is_file() else None)
