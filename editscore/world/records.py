"""Records of a group: one source picture, one instruction, several candidate edits with their true verdicts."""

from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from editscore.world.scene import Fault, Operation, Scene

Split = Literal["train", "dev", "report"]
SPLITS: Final = ("train", "dev", "report")
Pixels = NDArray[np.uint8]  # [H, W, 3]


class Verdict(msgspec.Struct, frozen=True):
    """The oracle's truth about one edit. Four integers 0..25; overall = sqrt(min(pf, c) * min(n, a)) / 2.5 on 0..10."""

    prompt_following: int
    consistency: int
    naturalness: int
    artifacts: int
    sc_reason: str
    pq_reason: str

    @property
    def overall(self) -> float:
        """0..10."""
        sc = min(self.prompt_following, self.consistency)
        pq = min(self.naturalness, self.artifacts)
        return float((sc * pq) ** 0.5 / 2.5)


class GroupEdit(msgspec.Struct, frozen=True, eq=False):
    """One candidate. `scene` is the graph after the edit; `faults` holds edit, collateral and quality faults."""

    id: str
    editor: str
    image: Pixels
    scene: Scene
    faults: tuple[Fault, ...]
    verdict: Verdict


class Group(msgspec.Struct, frozen=True, eq=False):
    """One source, one instruction (one operation, two for compose), `num_edits` candidates."""

    id: str
    task_type: str
    instruction: str
    operations: tuple[Operation, ...]
    scene: Scene
    goal: Scene
    source: Pixels
    edits: tuple[GroupEdit, ...]
