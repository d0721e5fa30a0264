"""Runs a file of Triton tests in a process of its own.

Triton decides when it is imported whether kernels are interpreted, so one process cannot hold both kinds, and a test session that
compiled anything with torch before has decided already.
"""

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest


def _why_not() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (`pip install editscore[gpu]`)"
    versions = [tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")]
    if versions[0] < (3, 7) and versions[1] >= (2, 4):
        return "the interpreter of triton 3.6 breaks with numpy 2.4: range() over a number that is not a constant"
    return None


needs_triton = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))


def run_tests(file: str, *, is_interpreted: bool, select: str = "not slow") -> None:
    """Fails with the whole report when a test of the file fails, or when none passed."""
    environment = os.environ | {"TRITON_INTERPRET": "1" if is_interpreted else "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", select, str(Path(__file__).parent / file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
