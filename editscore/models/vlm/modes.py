"""A model for exact answers or for fast ones: views of one network that share its weights.

`exact`: a row's bits do not depend on the rows beside it. On a CPU rows in multiples of 16 are enough, on a CUDA device the layers are
swapped. `fast`: whatever is quickest; answers are as good, but their last bits depend on company. In both the vision tower of a model on a
CUDA device runs on flash-attn where that is installed.
"""

from __future__ import annotations

import copy
from typing import Literal

from editscore_kernels.invariant_linear import unavailable

from editscore.models.vlm.flash import VISION_FLASH, flash_attention_why_not
from editscore.models.vlm.invariant import invariant_view, shared_copy
from editscore.models.vlm.model import VisionLanguageModel
from editscore.types import InvalidInputError

Mode = Literal["exact", "fast"]


def in_mode(model: VisionLanguageModel, mode: Mode) -> VisionLanguageModel:
    """The model itself where nothing has to change, otherwise a view of it with the same weights.

    Raises InvalidInputError naming `mode` on a CUDA device whose machine cannot run the layers of exact mode.
    """
    if mode == "exact" and model.device.type != "cuda":
        return model
    view = copy.copy(model)
    if mode == "fast":
        view.row_multiple = 1
    elif reason := unavailable():
        raise InvalidInputError("mode", f"exact answers on {model.device} need Triton: {reason}; mode 'fast' does without")
    else:
        view.network = invariant_view(model.network)
    vision = model.config.vision_config
    if flash_attention_why_not(model.device, model.dtype, vision.hidden_size // vision.num_heads) is None:
        if mode == "fast":
            view.network = shared_copy(model.network)
        view.network.set_attn_implementation({"vision_config": VISION_FLASH})
    return view
