"""The native tests of tests/cpp under the sanitizers, built by the project's own CMake file."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_native_tests_pass_under(sanitizers: str, tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=str(BIN)) or shutil.which("cmake")
    assert cmake, "cmake belongs to the development packages"
    options = ["-DEDITSCORE_PYTHON=OFF", "-DEDITSCORE_TESTS=ON", "-DEDITSCORE_CUDA=OFF", f"-DEDITSCORE_SANITIZE={sanitizers}"]
    for command in (
        [cmake, "-S", ROOT, "-B", tmp_path, *options],
        [cmake, "--build", tmp_path],
        [Path(cmake).with_name("ctest"), "--test-dir", tmp_path, "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
