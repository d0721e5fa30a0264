"""EditWorld: scenes, instructions, simulated editors and an exact oracle. numpy and Pillow only."""

from editscore.world.groups import SPLITS, Group, GroupEdit, Split, Verdict, sample_group, vocabulary, world_version
from editscore.world.labels import CELL_FIELDS, CLASSES, IMAGE_FIELDS, EditLabels, SceneLabels, edit_labels, scene_labels
from editscore.world.palette import QUALITY_FAULTS, TASKS
from editscore.world.scene import Background, Camera, Fault, Operation, Scene, SceneObject

__all__ = [
    "CELL_FIELDS",
    "CLASSES",
    "IMAGE_FIELDS",
    "QUALITY_FAULTS",
    "SPLITS",
    "TASKS",
    "Background",
    "Camera",
    "EditLabels",
    "Fault",
    "Group",
    "GroupEdit",
    "Operation",
    "Scene",
    "SceneLabels",
    "SceneObject",
    "Split",
    "Verdict",
    "edit_labels",
    "sample_group",
    "scene_labels",
    "vocabulary",
    "world_version",
]
