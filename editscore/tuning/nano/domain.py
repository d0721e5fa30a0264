"""The head `in_domain`: its threshold, chosen on development edits, and how often it warns."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from editscore.tuning.nano.evaluation import prompt_states
from editscore.tuning.nano.examples import Pixels
from editscore.tuning.nano.outside import is_about_absent, local_edit, photo_crop
from editscore.tuning.nano.photographs import GLOBAL_TASKS, bare_photo_group, training_photos
from editscore.tuning.nano.sequences import Encoder
from editscore.world import TASKS, Group, Split, load_photos, plan_group, sample_group, words_of

Edit = tuple[Pixels, Pixels, str]
LOCAL_TASKS: Final = tuple(task for task in TASKS if task not in GLOBAL_TASKS)
# The threshold lets this share of development edits of the world be warned about; a tenth of what the contract allows, because
# the two kinds lie far apart.
WARNED_SHARE: Final = 0.005
PHOTO_SIZE: Final = 224
NUM_GROUPS: Final = 130


def instruction_words(num_groups: int = 13 * 400) -> tuple[str, ...]:
    """Every word of EditWorld's instructions, sorted. The world's own vocabulary holds the words of reasons as well.

    Collected from training groups; a test holds the list against instructions of another split.
    """
    words: set[str] = set()
    for index in range(num_groups):
        words.update(words_of(plan_group("train", index, num_edits=1).instruction))
    return tuple(sorted(words))


def domain_logits(model: Any, head: nn.Linear, encoder: Encoder, edits: Items[Edit]) -> NDArray[np.float64]:
    """[E], above the threshold for the world's own edits."""
    with torch.no_grad():
        logits: NDArray[np.float64] = head(prompt_states(model, encoder, edits)).squeeze(-1).double().numpy()
    return logits


def world_edits(split: Split, num_groups: int, seed: int, photos: tuple[Pixels, ...] = ()) -> list[Edit]:
    """Edits of EditWorld, one task after the other; with photographs a quarter of the sources stand on one."""
    groups = [sample_group(split, index, seed=seed, task_type=TASKS[index % len(TASKS)], photos=photos) for index in range(num_groups)]
    return _flat(groups)


def bare_photo_edits(split: Split, num_groups: int, seed: int, photos: tuple[Pixels, ...]) -> list[Edit]:
    """Global edits of photographs."""
    groups = (bare_photo_group(split, i, seed=seed, num_edits=2, size=84, photos=photos) for i in range(num_groups))
    return _flat([group for group in groups if group is not None])


def _flat(groups: list[Group]) -> list[Edit]:
    return [(group.source, edit.image, group.instruction) for group in groups for edit in group.edits]


def local_edits(split: Split, num: int, seed: int, photos: tuple[Pixels, ...]) -> list[Edit]:
    """Local edits of photographs under local instructions of the world."""
    rng = np.random.default_rng([seed, 4, ("train", "dev", "report").index(split)])
    edits = []
    for index in range(num):
        group = sample_group(split, index, seed=seed, task_type=LOCAL_TASKS[index % len(LOCAL_TASKS)], num_edits=1, size=28)
        source, other = (photo_crop(rng, photos[int(rng.integers(len(photos)))], PHOTO_SIZE) for _ in range(2))
        edits.append((source, local_edit(rng, source, other), group.instruction))
    return edits


def absent_edits(split: Split, num_groups: int, seed: int) -> list[Edit]:
    """Edits of EditWorld under another group's instruction, none of whose objects is in the picture."""
    groups = [sample_group(split, index, seed=seed, num_edits=1) for index in range(num_groups)]
    pairs = zip(groups, groups[num_groups // 3 :] + groups[: num_groups // 3], strict=True)
    return [(g.source, g.edits[0].image, other.instruction) for g, other in pairs if is_about_absent(g, other)]


def choose_threshold(model: Any, head: nn.Linear, encoder: Encoder, seed: int) -> float:
    """The logit below which a sample is warned about, from development edits: plain, over photographs, and of photographs."""
    photos = training_photos()
    edits = world_edits("dev", NUM_GROUPS, seed)
    if photos:
        edits += world_edits("dev", NUM_GROUPS // 2, seed + 1, photos) + bare_photo_edits("dev", NUM_GROUPS // 4, seed, photos)
    return float(np.quantile(domain_logits(model, head, encoder, edits), WARNED_SHARE))


def warned_shares(model: Any, head: nn.Linear, encoder: Encoder, threshold: float, seed: int) -> dict[str, float]:
    """Shares of report edits that are warned about. The photographs were never trained on."""
    photos = load_photos("report")
    kinds = {
        "EditWorld edits": world_edits("report", NUM_GROUPS, seed),
        "EditWorld edits under an instruction about objects that are not there": absent_edits("report", NUM_GROUPS, seed),
    }
    if photos:
        kinds["EditWorld edits, a quarter over held-out photographs"] = world_edits("report", NUM_GROUPS, seed + 1, photos)
        kinds["global edits of held-out photographs"] = bare_photo_edits("report", NUM_GROUPS, seed, photos)
        kinds["local edits of held-out photographs"] = local_edits("report", 2 * NUM_GROUPS, seed, photos)
    return {name: float(np.mean(domain_logits(model, head, encoder, edits) < threshold)) for name, edits in kinds.items()}
