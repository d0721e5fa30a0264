"""Images into patches: the resizing rule of a checkpoint and the patch layout that the Qwen-VL vision towers read.

Done with Pillow and numpy alone (no torchvision). Legend: H, W pixels; P patch side; S merge side; T frames per patch.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from editscore.types import Image, InvalidInputError

# Changes when the arithmetic below changes, so that stored scores of the old arithmetic are not taken for new ones.
PREPROCESSING_VERSION = 1
MAX_ASPECT_RATIO = 200.0


@dataclass(frozen=True)
class PreparedImage:
    """Patches [num_patches, 3 * T * P * P] float32 in merge-block order, and the grid (rows, columns) in patches."""

    patches: npt.NDArray[np.float32]
    grid: tuple[int, int]


@dataclass(frozen=True)
class PixelRule:
    """How an image becomes patches. `resize` (width, height) fixes the size, else the area is kept within min and max pixels."""

    patch_size: int
    merge_size: int
    temporal_patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_pixels: int
    max_pixels: int
    resize: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        factor = self.patch_size * self.merge_size
        if self.resize is not None and (min(self.resize) < factor or any(side % factor for side in self.resize)):
            raise InvalidInputError("pixels", f"resize {self.resize} is no multiple of {factor}")
        if not factor * factor <= self.max_pixels or self.min_pixels > self.max_pixels:
            raise InvalidInputError("pixels", f"min_pixels {self.min_pixels}, max_pixels {self.max_pixels} leave no size")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the rule and of the version of the arithmetic."""
        return hashlib.sha256(json.dumps([PREPROCESSING_VERSION, asdict(self)], sort_keys=True).encode()).hexdigest()

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) that an image is resized to: sides are multiples of P * S, the area is within the limits.

        Raises `InvalidInputError` for a shape more than 200 times as long as it is wide.
        """
        if self.resize is not None:
            return self.resize
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise InvalidInputError("image", f"{width}x{height} is more than {MAX_ASPECT_RATIO:.0f} times as long as wide")
        factor = self.patch_size * self.merge_size
        # Python's round (half to even), as the published processors use it.
        sides = (round(width / factor) * factor, round(height / factor) * factor)
        if sides[0] * sides[1] > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            sides = tuple(max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height))  # type: ignore[assignment]
        elif sides[0] * sides[1] < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            sides = tuple(math.ceil(side * grow / factor) * factor for side in (width, height))  # type: ignore[assignment]
        return sides

    def grid(self, image: Image) -> tuple[int, int]:
        """(rows, columns) of patches of an image."""
        width, height = self.target_size(image.width, image.height)
        return height // self.patch_size, width // self.patch_size

    def num_tokens(self, image: Image) -> int:
        """How many tokens of the language model an image takes."""
        rows, columns = self.grid(image)
        return rows * columns // self.merge_size**2

    def prepare(self, image: Image) -> PreparedImage:
        """Resizes (Pillow, bicubic, antialiased), normalises per channel, and cuts into patches."""
        size = self.target_size(image.width, image.height)
        pixels = PIL.Image.frombytes("RGB", (image.width, image.height), image.pixels)
        if size != (image.width, image.height):
            pixels = pixels.resize(size, PIL.Image.Resampling.BICUBIC)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        scale: npt.NDArray[np.float32] = np.float32(1.0) / (np.float32(255.0) * std)
        shift: npt.NDArray[np.float32] = -mean / std
        x_HWC: npt.NDArray[np.float32] = np.asarray(pixels, np.float32) * scale + shift
        return PreparedImage(*self._patchify(x_HWC))

    def _patchify(self, x_HWC: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
        P, S, T = self.patch_size, self.merge_size, self.temporal_patch_size
        rows, columns = x_HWC.shape[0] // P, x_HWC.shape[1] // P
        blocks = x_HWC.reshape(rows // S, S, P, columns // S, S, P, 3).transpose(0, 3, 1, 4, 6, 2, 5)
        # A still image fills all T frames of a patch.
        frames = np.broadcast_to(blocks[:, :, :, :, :, None], (*blocks.shape[:5], T, P, P))
        return np.ascontiguousarray(frames).reshape(rows * columns, 3 * T * P * P), (rows, columns)


def read_pixel_rule(folder: Path, vision_config: Any, pixels: dict[str, Any]) -> PixelRule:
    """The rule of a checkpoint: its preprocessor_config.json, overridden by `pixels` of its editscore.json."""
    path = folder / "preprocessor_config.json"
    published = json.loads(path.read_text("utf-8")) if path.exists() else {}
    size = published.get("size") or {}
    is_qwen3 = vision_config.patch_size == 16
    fallback = (
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) if is_qwen3 else ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    unknown = set(pixels) - {"resize", "min_pixels", "max_pixels"}
    if unknown:
        raise InvalidInputError("pixels", f"editscore.json of {folder}: unknown fields {sorted(unknown)}")
    resize = pixels.get("resize")
    return PixelRule(
        patch_size=vision_config.patch_size,
        merge_size=vision_config.spatial_merge_size,
        temporal_patch_size=vision_config.temporal_patch_size,
        mean=tuple(published.get("image_mean", fallback[0])),
        std=tuple(published.get("image_std", fallback[1])),
        min_pixels=pixels.get("min_pixels") or published.get("min_pixels") or size.get("shortest_edge") or 56 * 56,
        max_pixels=pixels.get("max_pixels") or published.get("max_pixels") or size.get("longest_edge") or 28 * 28 * 1280,
        resize=None if resize is None else (int(resize[0]), int(resize[1])),
    )
