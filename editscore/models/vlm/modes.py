"""A model for exact answers or for fast ones: views of one network that share its weights.

`exact`: a row's bits do not depend on the rows beside it. On a CPU rows in multiples of 16 are enough, on a CUDA device the layers are
swapped. `fast`: whatever is quickest; answers are as good, but their last bits depend on company.
"""

from __future__ import annotations

import copy
import importlib.util
from typing import Literal

import torch
from editscore_kernels.invariant_linear import unavailable

from editscore.models.vlm.invariant import invariant_view, shared_copy
from editscore.models.vlm.model import VisionLanguageModel
from editscore.types import InvalidInputError

Mode = Literal["exact", "fast"]


def in_mode(model: VisionLanguageModel, mode: Mode) -> VisionLanguageModel:
    """The model itself where nothing has to change, otherwise a view of it with the same weights.

    Raises InvalidInputError naming `mode` on a CUDA device whose machine cannot run the layers of exact mode.
    """
    is_cuda = model.device.type == "cuda"
    if mode == "exact" and not is_cuda:
        return model
    view = copy.copy(model)
    if mode == "fast":
        view.row_multiple = 1
        if is_cuda and flash_attention_why_not(model.dtype) is None:
            view.network = shared_copy(model.network)
            view.network.set_attn_implementation({"vision_config": "flash_attention_2"})
        return view
    if reason := unavailable():
        raise InvalidInputError("mode", f"exact answers on {model.device} need Triton: {reason}; mode 'fast' does without")
    view.network = invariant_view(model.network)
    return view


def flash_attention_why_not(dtype: torch.dtype = torch.bfloat16) -> str | None:
    """Why the vision tower does not use flash-attn in fast mode, or None."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"it takes 16-bit types, the model is {dtype}"
    if importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed (`pip install editscore[flash]`)"
    return None
