"""The records that rooms pass to each other: one definition for memory, files and wire.

Every record is a frozen msgspec struct. msgspec checks types when it decodes; `__post_init__` checks the rest, in memory as
well as on the wire. Nothing here imports torch, numpy or Pillow.

Scales: a pass holds `raw` values on 0..score_range (25 as published), every field of `Score` is on 0..10, a reward is 0..1.
"""

from editscore.types.requests import Choice, Completion, FinishReason, ImagePart, Literal, Message, Request, Sampling, Slot, Text, TextPart
from editscore.types.samples import MAX_IMAGE_PIXELS, MAX_INSTRUCTION_CHARACTERS, EditSample, Image, InvalidInputError
from editscore.types.scores import Identity, PassScore, Score, Spread, Status
from editscore.types.stats import EngineStats, ScorerStats

__all__ = [
    "MAX_IMAGE_PIXELS",
    "MAX_INSTRUCTION_CHARACTERS",
    "Choice",
    "Completion",
    "EditSample",
    "EngineStats",
    "FinishReason",
    "Identity",
    "Image",
    "ImagePart",
    "InvalidInputError",
    "Literal",
    "Message",
    "PassScore",
    "Request",
    "Sampling",
    "Score",
    "ScorerStats",
    "Slot",
    "Spread",
    "Status",
    "Text",
    "TextPart",
]
