"""EditWorld: scenes, instructions, simulated editors and an exact oracle. numpy and Pillow only."""

from editscore.world.editors import EDITORS
from editscore.world.groups import MAX_EDITS, SPLITS, GroupPlan, paint, paint_group, plan_group, sample_group, world_version
from editscore.world.labels import CELL_FIELDS, CLASSES, IMAGE_FIELDS, EditLabels, SceneLabels, edit_labels, scene_labels
from editscore.world.manifest import manifest_row, write_groups
from editscore.world.palette import QUALITY_FAULTS, TASKS
from editscore.world.photos import load_photos
from editscore.world.records import Group, GroupEdit, Split, Verdict
from editscore.world.scene import Background, Camera, Fault, Operation, Scene, SceneObject
from editscore.world.sheet import draw_sheet
from editscore.world.words import vocabulary, words_of

__all__ = [
    "CELL_FIELDS",
    "CLASSES",
    "EDITORS",
    "IMAGE_FIELDS",
    "MAX_EDITS",
    "QUALITY_FAULTS",
    "SPLITS",
    "TASKS",
    "Background",
    "Camera",
    "EditLabels",
    "Fault",
    "Group",
    "GroupEdit",
    "GroupPlan",
    "Operation",
    "Scene",
    "SceneLabels",
    "SceneObject",
    "Split",
    "Verdict",
    "draw_sheet",
    "edit_labels",
    "load_photos",
    "manifest_row",
    "paint",
    "paint_group",
    "plan_group",
    "sample_group",
    "scene_labels",
    "vocabulary",
    "words_of",
    "world_version",
    "write_groups",
]
