"""Training examples: groups of EditWorld, drawn and encoded into batches. No torch here, so a process can do it alone.

Legend: I images, E edits of the world, O edits outside it, R rows, L row length.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editscore.tuning.nano.config import IMAGE_SIZE, TOKENS_PER_IMAGE, NanoConfig
from editscore.tuning.nano.outside import OutsideEdit, OutsideEdits
from editscore.tuning.nano.photographs import bare_photo_group
from editscore.tuning.nano.sequences import Encoder, Ints, Rows, Sequence, pack
from editscore.world import Group, SceneLabels, Split, edit_labels, sample_group, scene_labels

Pixels = NDArray[np.uint8]
# The edited image ends the SC prompt: its tokens, <|vision_end|>, <|im_end|>, assistant.
FROM_EDITED_TO_END = TOKENS_PER_IMAGE + 3
VISION_EDITS = 3


class ImageTruth(NamedTuple):
    """Class ids of each world image: cells [I, 9, fields], image [I, fields], quality [I, faults]."""

    cells: Ints
    image: Ints
    quality: Ints


class EditTruth(NamedTuple):
    """Of each edit: image numbers [E], where its first edited token stands in the flat rows [E], and its labels."""

    source: Ints
    edited: Ints
    edited_at: Ints
    changed: Ints
    target: Ints
    globals: Ints
    camera: Ints


class DomainTruth(NamedTuple):
    """Where the last prompt token stands [E + O], and 1 for the world's edits, 0 for others."""

    at: Ints
    inside: Ints


class Batch(NamedTuple):
    """pixels [I + images outside, 84, 84, 3]; the labels are of the first I images."""

    pixels: Pixels
    truth: ImageTruth
    rows: Rows
    edits: EditTruth
    domain: DomainTruth


class ImageBatch(NamedTuple):
    """Images alone, for the vision stage."""

    pixels: Pixels
    truth: ImageTruth


def to_model_size(pixels: Pixels) -> Pixels:
    """Resize [H, W, 3] to the model's 84 x 84 as the engine does: Pillow's bicubic filter."""
    if pixels.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def stack_truth(labels: list[SceneLabels]) -> ImageTruth:
    """One array per kind of label."""
    return ImageTruth(*(np.stack([np.asarray(scene[k]) for scene in labels]) for k in range(3)))


class GroupSource:
    """Draws group number `index` of a split by the recipe's mixture of sizes, backgrounds and photographs."""

    def __init__(self, config: NanoConfig, split: Split, photos: tuple[Pixels, ...]) -> None:
        self.config, self.split, self.photos = config, split, photos

    def group(self, index: int, num_edits: int) -> Group:
        """The same group for the same index."""
        config = self.config
        rng = np.random.default_rng([config.seed, 1, index])
        kind, scale = rng.random(2)
        size = IMAGE_SIZE if scale >= config.large_share else int(rng.choice([112, 112, 168]))
        if self.photos and kind < config.bare_photo_share:
            bare = bare_photo_group(self.split, index, seed=config.world_seed, num_edits=num_edits, size=size, photos=self.photos)
            if bare is not None:
                return bare
        photos = self.photos if kind < config.bare_photo_share + config.photo_share else ()
        return sample_group(self.split, index, seed=config.world_seed, num_edits=num_edits, size=size, photos=photos)


class BatchSource:
    """Batch number n of the recipe, the same bytes each time."""

    def __init__(self, config: NanoConfig, encoder: Encoder, photos: tuple[Pixels, ...]) -> None:
        self.config, self.encoder = config, encoder
        self.groups = GroupSource(config, "train", photos)
        self.outside = OutsideEdits(config, photos)

    def images(self, number: int) -> ImageBatch:
        """Pictures with their labels: a source and VISION_EDITS of its edits, group by group."""
        num_groups = self.config.vision_batch_size // (1 + VISION_EDITS)
        # The offset keeps the vision stage's groups apart from the main stage's.
        first = (1 << 30) + number * num_groups
        pixels: list[Pixels] = []
        labels: list[SceneLabels] = []
        for index in range(first, first + num_groups):
            group = self.groups.group(index, VISION_EDITS)
            pixels += [to_model_size(picture) for picture in (group.source, *(edit.image for edit in group.edits))]
            labels += [scene_labels(group.scene), *(edit_labels(group, edit).image for edit in group.edits)]
        return ImageBatch(np.stack(pixels), stack_truth(labels))

    def batch(self, number: int) -> Batch:
        """Sequences of `batch_size` edits, both prompts each, and a few edits from outside."""
        per_group = self.config.edits_per_group
        num_groups = self.config.batch_size // per_group
        groups = [self.groups.group(number * num_groups + i, per_group) for i in range(num_groups)]
        builder = _BatchBuilder(self.encoder)
        for group in groups:
            builder.add_group(group)
        for edit in self.outside.draw(number, groups):
            builder.add_outside(edit)
        return builder.build(self.config.row_length)


class _BatchBuilder:
    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.pixels: list[Pixels] = []
        self.labels: list[SceneLabels] = []
        self.sequences: list[Sequence] = []
        self.images: list[tuple[int, ...]] = []
        self.edits: list[tuple[int, int, int]] = []  # source, edited, sequence
        self.changes: list[tuple[Ints, Ints, Ints, int]] = []
        self.outside: list[int] = []  # sequences

    def _add_image(self, pixels: Pixels) -> int:
        self.pixels.append(to_model_size(pixels))
        return len(self.pixels) - 1

    def _add_sequence(self, sequence: Sequence, images: tuple[int, ...]) -> int:
        self.sequences.append(sequence)
        self.images.append(images)
        return len(self.sequences) - 1

    def add_group(self, group: Group) -> None:
        source = self._add_image(group.source)
        self.labels.append(scene_labels(group.scene))
        for edit in group.edits:
            truth, verdict = edit_labels(group, edit), edit.verdict
            edited = self._add_image(edit.image)
            self.labels.append(truth.image)
            sc, pq = self.encoder.sc_prompt(group.instruction), self.encoder.pq_prompt()
            pair = (verdict.prompt_following, verdict.consistency)
            number = self._add_sequence(self.encoder.answered(sc, verdict.sc_reason, pair), (source, edited))
            pair = (verdict.naturalness, verdict.artifacts)
            self._add_sequence(self.encoder.answered(pq, verdict.pq_reason, pair), (edited,))
            self.edits.append((source, edited, number))
            self.changes.append((truth.changed, truth.target, truth.globals, truth.camera))

    def add_outside(self, edit: OutsideEdit) -> None:
        images = (self._add_image(edit.source), self._add_image(edit.edited))
        prompt = self.encoder.sc_prompt(edit.instruction)
        sequence = self.encoder.unfollowed(prompt, edit.phrase) if edit.phrase else self.encoder.unanswered(prompt)
        self.outside.append(self._add_sequence(sequence, images))

    def build(self, row_length: int) -> Batch:
        rows = pack(self.sequences, self.images, self.encoder.image_pad, row_length)
        source, edited, number = np.array(self.edits, np.int64).T
        lengths = np.array([s.prompt_length for s in self.sequences])
        ends = rows.starts + lengths - 1
        changed, target, globals_, camera = (np.stack([np.asarray(c[k], np.int64) for c in self.changes]) for k in range(4))
        inside = np.repeat(np.array([1, 0]), [len(number), len(self.outside)])
        domain = DomainTruth(np.concatenate([ends[number], ends[np.array(self.outside, np.int64)]]), inside)
        edits = EditTruth(source, edited, ends[number] + 1 - FROM_EDITED_TO_END, changed, target, globals_, camera)
        return Batch(np.stack(self.pixels), stack_truth(self.labels), rows, edits, domain)
