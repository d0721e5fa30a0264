"""Everything that decides the embedded nano judge: its shape, its curriculum, its budget."""

from __future__ import annotations

import hashlib
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

IMAGE_SIZE = 84
PATCH_SIZE = 14
MERGE_SIZE = 2
GRID = IMAGE_SIZE // (PATCH_SIZE * MERGE_SIZE)
TOKENS_PER_IMAGE = GRID * GRID
SCORE_RANGE = 25
NUM_SCORES = SCORE_RANGE + 1


class NanoArchitecture(BaseModel):
    """Dimensions of the Qwen2.5-VL model. `mrope_section` (time, height, width, repeated) sums to half a head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vision_hidden: int = 160
    vision_depth: int = 4
    vision_heads: int = 5
    vision_intermediate: int = 320
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    intermediate: int = 512
    rope_theta: float = 100.0
    vision_rope_theta: float = 100.0
    mrope_section: tuple[int, ...] = (2, 3, 3, 2, 3, 3)
    initializer_range: float = 0.04
    max_positions: int = 1024

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden % self.heads or self.vision_hidden % self.vision_heads or self.heads % self.kv_heads:
            raise ValueError("hidden sizes divide by their heads, heads by kv_heads")
        if sum(self.mrope_section) * 2 != self.hidden // self.heads:
            raise ValueError(f"mrope_section {self.mrope_section} does not sum to half of a head of {self.hidden // self.heads}")
        return self


class NanoConfig(BaseModel):
    """The recipe. The run ends at `samples` edits or after `minutes` of wall time, whichever comes first.

    The learning rate follows the larger of the two shares that are used up, so a slow machine still decays to the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: NanoArchitecture = NanoArchitecture()
    seed: int = 7
    minutes: float = 80.0
    samples: int = 400_000
    vision_share: float = 0.1  # of both budgets, for the vision stage
    vision_images: int = 200_000
    batch_size: int = 48  # edits
    vision_batch_size: int = 96  # images
    edits_per_group: int = 2
    row_length: int = 160  # tokens of a packed row
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    decay_share: float = 0.6  # the last share of the run, over which the learning rate falls linearly
    clip_norm: float = 1.0
    score_sigma: float = 1.0  # of the soft score targets, in points of 0..25: narrow first, which learns faster ...
    late_score_sigma: float = 1.75  # ... wide in the end, so that single passes tie less often
    late_from: float = 0.5  # share of the main stage after which targets are wide
    reasoning_weight: float = 1.0
    score_weight: float = 2.0
    vision_weight: float = 0.3
    compare_weight: float = 0.3
    domain_weight: float = 0.1
    compare_layer: int = 3  # the auxiliary heads read the states after this many layers
    outside_per_batch: int = 8  # edits outside the world: for the domain head, half of them also for a prompt following of 0
    photo_share: float = 0.5  # of groups that may be drawn over photographs; EditWorld then does so for a quarter
    bare_photo_share: float = 0.06  # of groups that are a photograph under a global edit
    large_share: float = 0.12  # of groups drawn at 112 or 168 px and resized
    checkpoint_minutes: float = 4.0
    curve_minutes: float = 8.0
    curve_groups: int = 78
    world_seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.minutes, self.samples, self.batch_size, self.edits_per_group) <= 0:
            raise ValueError("budgets and sizes are positive")
        if self.batch_size % self.edits_per_group:
            raise ValueError("batch_size divides by edits_per_group")
        if self.reasoning_weight == self.score_weight:
            raise ValueError("reasoning_weight and score_weight differ: the weight tells a score from a number in a reason")
        if not 0 < self.compare_layer <= self.architecture.layers:
            raise ValueError("compare_layer is one of the layers")
        return self

    def sigma_at(self, used: float) -> float:
        """The width of the soft targets when the share `used` of the main stage is gone."""
        return self.late_score_sigma if used >= self.late_from else self.score_sigma

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all fields but the budget's clock and reporting: a run resumes only under the same digest."""
        free = {"minutes", "samples", "checkpoint_minutes", "curve_minutes", "curve_groups"}
        return hashlib.sha256(self.model_dump_json(exclude=free).encode()).hexdigest()
