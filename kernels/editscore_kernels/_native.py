"""The only importer of the compiled module `_C`: checks what pointers cannot say, then calls it."""

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("editscore_kernels._C"), None
    except ImportError as error:
        return None, str(error)


_C, _LOAD_ERROR = _load()


def unavailable() -> str | None:
    """Why the compiled module cannot be used, or None."""
    if _C is None:
        return f"the compiled module is not there ({_LOAD_ERROR}); build it with `pip install -e .`"
    if not hasattr(_C, "sample_tokens_cpu"):
        return "the compiled module is older than this source; build it again with `pip install -e .`"
    return None


def sample_tokens_why_not(logits: Tensor, *rest: Any) -> str | None:
    """What the C++ sampler cannot do."""
    if logits.device.type != "cpu":
        return f"logits are on {logits.device}"
    if logits.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"logits of {logits.dtype}: the reference only"
    return None


def sample_tokens(*arguments: Any) -> Any:
    """Filled by the C++ kernel."""
    raise NotImplementedError
