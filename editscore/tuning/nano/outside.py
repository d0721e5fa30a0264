"""Edits from outside EditWorld, for the domain head: local edits of photographs, and instructions about what is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from editscore.tuning.nano.config import IMAGE_SIZE, NanoConfig
from editscore.tuning.nano.photographs import GLOBAL_TASKS
from editscore.world import Group

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

ABSENT_SHARE: Final = 0.5  # of the edits outside that are the world's own pictures under another scene's instruction

TRIES: Final = 4  # per edit wanted: a drawn instruction may fit every scene of the batch


def photo_crop(rng: Rng, photo: Pixels, size: int = IMAGE_SIZE) -> Pixels:
    """A square crop of 35% to all of the shorter side, perhaps mirrored, its channels scaled a little."""
    height, width = photo.shape[:2]
    side = int(min(height, width) * rng.uniform(0.35, 1.0))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    pixels = np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((size, size), Image.Resampling.BICUBIC))
    gain = rng.uniform(0.8, 1.2, 3) * rng.uniform(0.8, 1.2)
    return np.clip(pixels * gain, 0, 255).astype(np.uint8)


def varied_crop(rng: Rng, photos: tuple[Pixels, ...], size: int = IMAGE_SIZE) -> Pixels:
    """A crop for training: a dozen photographs stand for all others, so some are mixed, recolored or strewn with blobs."""
    pixels = photo_crop(rng, photos[int(rng.integers(len(photos)))], size).astype(np.float32)
    if rng.random() < 0.35:
        other = photo_crop(rng, photos[int(rng.integers(len(photos)))], size).astype(np.float32)
        pixels += np.float32(rng.uniform(0.2, 0.6)) * (other - pixels)
    if rng.random() < 0.3:
        mixing = np.eye(3) + rng.normal(0, 0.35, (3, 3))
        pixels = np.asarray(pixels @ (mixing / np.maximum(0.3, mixing.sum(0))), np.float32)
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 6))):
            mask = _region(rng, size, 0.02, 0.15) * np.float32(rng.uniform(0.4, 1))
            pixels = np.asarray(pixels * (1 - mask) + mask * rng.uniform(0, 255, 3), np.float32)
    if rng.random() < 0.3:
        pixels = np.asarray(255 * (np.clip(pixels, 0, 255) / 255) ** rng.uniform(0.5, 2.2), np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _region(rng: Rng, size: int, least: float = 0.08, most: float = 0.25) -> NDArray[np.float32]:
    """A soft mask [size, size, 1] of an ellipse or a rectangle; its half axes are shares of the side."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    height, width = rng.uniform(least, most, 2)
    top, left = rng.uniform(height, 1 - height), rng.uniform(width, 1 - width)
    across, down = np.abs(x - left) / width, np.abs(y - top) / height
    distance = np.hypot(across, down) if rng.random() < 0.6 else np.maximum(across, down)
    return np.asarray(np.clip((1.05 - distance) * 12, 0, 1)[..., None], np.float32)


def _pasted(rng: Rng, pixels: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.roll(other, tuple(rng.integers(0, len(pixels), 2)), (0, 1))


def _copied(rng: Rng, pixels: NDArray[np.float32], _other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.roll(pixels, tuple(rng.integers(len(pixels) // 4, 3 * len(pixels) // 4, 2)), (0, 1))


def _erased(rng: Rng, pixels: NDArray[np.float32], _other: NDArray[np.float32]) -> NDArray[np.float32]:
    radius = int(rng.integers(len(pixels) // 12, len(pixels) // 4))
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.BoxBlur(radius)), np.float32)


def _recolored(rng: Rng, pixels: NDArray[np.float32], _other: NDArray[np.float32]) -> NDArray[np.float32]:
    tint = rng.uniform(0, 255, 3).astype(np.float32)
    share = np.float32(rng.uniform(0.4, 0.9))
    gray = pixels.mean(2, keepdims=True)
    return np.asarray(gray * (1 - share) + share * tint * gray / 140, np.float32)


def _relit(rng: Rng, pixels: NDArray[np.float32], _other: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels * np.float32(rng.choice([0.35, 0.55, 1.5, 1.9]))


_CHANGES: Final[tuple[Callable[..., NDArray[np.float32]], ...]] = (_pasted, _copied, _erased, _recolored, _relit)


def local_edit(rng: Rng, source: Pixels, other: Pixels) -> Pixels:
    """One to two regions of a photograph pasted over, copied, erased, recolored or relit; one in ten stays as it was."""
    pixels = source.astype(np.float32)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.1, 0.65, 0.25]))):
        change = _CHANGES[int(rng.integers(len(_CHANGES)))]
        mask = _region(rng, len(source))
        pixels = pixels * (1 - mask) + mask * change(rng, pixels, other.astype(np.float32))
    return np.clip(pixels, 0, 255).astype(np.uint8)


class OutsideEdit(NamedTuple):
    """Source, edited, instruction; `phrase` says that what is not there was not edited (empty for photographs: nothing is known)."""

    source: Pixels
    edited: Pixels
    instruction: str
    phrase: str = ""


def unfollowed_phrase(group: Group) -> str:
    """The oracle's words for a group's operations when nothing was done."""
    parts = []
    for operation in group.operations:
        target = group.scene.find(operation.target)
        if target is not None:
            parts.append(f"{target.name} {'not extracted' if operation.kind == 'extract' else 'unchanged'}")
    return ", ".join(parts)


def is_about_absent(group: Group, other: Group) -> bool:
    """Whether none of what the other group's instruction is about is in this group."""
    names = {thing.name for thing in group.scene.objects}
    meant = {thing.name for operation in other.operations if (thing := other.scene.find(operation.target)) is not None}
    return bool(meant) and not meant & names


class OutsideEdits:
    """`outside_per_batch` edits for batch number n, the same each time."""

    def __init__(self, config: NanoConfig, photos: tuple[Pixels, ...]) -> None:
        self.config, self.photos = config, photos

    def draw(self, number: int, groups: list[Group]) -> list[OutsideEdit]:
        """`groups` are those of the batch: they lend their instructions and, for absent objects, their pictures."""
        rng = np.random.default_rng([self.config.seed, 2, number])
        local = [group for group in groups if group.task_type not in GLOBAL_TASKS]
        drawn: list[OutsideEdit] = []
        for _ in range(TRIES * self.config.outside_per_batch if local else 0):
            if len(drawn) == self.config.outside_per_batch:
                break
            other = local[int(rng.integers(len(local)))]
            if self.photos and rng.random() >= ABSENT_SHARE:
                source, stranger = varied_crop(rng, self.photos), varied_crop(rng, self.photos)
                drawn.append(OutsideEdit(source, local_edit(rng, source, stranger), other.instruction))
                continue
            strangers = [group for group in groups if is_about_absent(group, other)]
            if strangers:
                group = strangers[int(rng.integers(len(strangers)))]
                edited = group.edits[int(rng.integers(len(group.edits)))].image
                drawn.append(OutsideEdit(group.source, edited, other.instruction, unfollowed_phrase(other)))
        return drawn
