"""Kernels in Triton. Importing this package imports neither triton nor a kernel; each kernel's module is imported when it first runs."""

import functools
import importlib
import importlib.util
import os
from types import ModuleType
from typing import Any

import torch

from editscore_kernels._dispatch import Candidate


def is_interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on tensors of the CPU; the variable must be set before triton is imported."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


@functools.cache
def _is_installed() -> bool:
    """Looked up once: the search over the path takes 30 us, more than a small call of an op."""
    return importlib.util.find_spec("triton") is not None


def unavailable() -> str | None:
    """Why no Triton kernel can run on this machine, or None."""
    if not _is_installed():
        return "triton is not installed (`pip install editscore[gpu]`)"
    if not is_interpreted() and not torch.cuda.is_available():
        return "no CUDA device"
    return None


def device_why_not(name: str, device: torch.device) -> str | None:
    """Why a tensor on this device is out of reach: CUDA's own, or the CPU's under the interpreter."""
    wanted = "cpu" if is_interpreted() else "cuda"
    return None if device.type == wanted else f"{name} is on {device}"


def candidate(op: str) -> Candidate:
    """The seat of an op's Triton kernel: `why_not` and a function of the op's name in the module of that name, imported when asked."""

    def kernel() -> ModuleType:
        return importlib.import_module(f"editscore_kernels._triton.{op}")

    def run(*arguments: Any) -> Any:
        with torch.cuda.device_of(arguments[0]):  # triton launches on the current device, whichever the tensors are on
            return getattr(kernel(), op)(*arguments)

    return Candidate("triton", unavailable, lambda *arguments: kernel().why_not(*arguments), run, is_interpreted)
