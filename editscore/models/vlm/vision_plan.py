"""What the vision towers of transformers work out from the sizes of images, worked out on the host before a GPU is asked for anything.

On a GPU the towers would read these sizes back from the device for every image and in every layer, and the host would wait each time.
They take them ready-made as well, under the names used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import vision_utils
from transformers.utils.generic import is_flash_attention_requested


def vision_plan(tower: Any, grids: Sequence[Sequence[int]], device: torch.device) -> dict[str, Any]:
    """The arguments of a call of `tower` for images of `grids` (1, rows, columns), beside the patches.

    Boundaries of images and windows stay on the host, where they cut the batch, except for flash-attn, which reads them on the device.
    """
    grid = torch.tensor(grids)
    boundaries = {"cu_seqlens": vision_utils.get_vision_cu_seqlens(grid)}
    moved = {"position_ids": vision_utils.get_vision_position_ids(grid, tower.spatial_merge_size)}
    if hasattr(tower, "window_size"):
        sizes = {name: getattr(tower, name) for name in ("spatial_merge_size", "window_size", "patch_size")}
        moved["window_index"], boundaries["cu_window_seqlens"] = vision_utils.get_vision_window_index(grid, **sizes)
    if hasattr(tower, "num_grid_per_side"):
        moved["interp_indices"], moved["interp_weights"] = vision_utils.get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=tower.config.spatial_merge_size,
        )
    longest: dict[str, int] = {}
    if is_flash_attention_requested(tower.config):
        names = {"cu_seqlens": "max_seqlen", "cu_window_seqlens": "max_window_seqlen"}
        longest = {names[name]: int((ends[1:] - ends[:-1]).max()) for name, ends in boundaries.items()}
        moved |= boundaries
        boundaries = {}
    return {"grid_thw": grid, **boundaries, **longest, **{name: x.to(device, non_blocking=True) for name, x in moved.items()}}
