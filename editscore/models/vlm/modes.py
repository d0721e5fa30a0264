"""A model for exact answers or for fast ones: views of one network that share its weights.

`exact`: a row's bits do not depend on the rows beside it. On the CPU that takes rows in multiples of 16, on a CUDA device layers whose
kernels work every row alike. `fast`: whatever is quickest; answers are as good, but their last bits depend on company.
"""

from __future__ import annotations

import copy
from typing import Literal

from editscore.models.vlm.model import VisionLanguageModel

Mode = Literal["exact", "fast"]


def in_mode(model: VisionLanguageModel, mode: Mode) -> VisionLanguageModel:
    """The model itself where nothing has to change, otherwise a view of it with the same weights."""
    if mode == "exact":
        return model
    view = copy.copy(model)
    view.row_multiple = 1
    return view
