"""Products of tiles in Triton's interpreter that treat all rows alike, as a tensor core does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from editscore_kernels import _triton


@pytest.fixture
def rows_of_a_tile_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter multiplies tiles by OpenBLAS, which sums the rows of one tile in different orders; a tensor core does not.

    Summed in float64 and rounded once, a block's products are the same in every row, so that what is left is the kernel's own.
    """
    if not _triton.is_interpreted():
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        return TensorHandle((a.data.astype(np.float64) @ b.data.astype(np.float64)).astype(d.data.dtype) + d.data, d.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
