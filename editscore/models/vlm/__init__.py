"""Vision-language models: loading, preprocessing, chat layout, positions, adapters and heads of Qwen2.5-VL and Qwen3-VL.

The modelling code is transformers' own; this room gives it explicit positions, a flat batch of tokens and an attention that
the caller passes with every call, so that nothing depends on state kept in a module.
"""

from editscore.models.vlm.adapter import base_of
from editscore.models.vlm.chat import Prompt
from editscore.models.vlm.errors import AdapterError, MissingWeightsError, UnknownModelError, UnsupportedModelError
from editscore.models.vlm.flash import VISION_FLASH, Bounds, flash_attention, flash_attention_why_not
from editscore.models.vlm.images import PixelRule, PreparedImage
from editscore.models.vlm.load import find_folders, load_model, read_sizes
from editscore.models.vlm.model import ImageFeatures, VisionLanguageModel
from editscore.models.vlm.modes import Mode, in_mode
from editscore.models.vlm.ranks import Ranks, RanksError
from editscore.models.vlm.resolve import resolve, resolve_adapter
from editscore.models.vlm.shards import SplitModel, share_of, why_not_split
from editscore.models.vlm.sizes import ModelSizes
from editscore.models.vlm.text_attention import Attend

__all__ = [
    "VISION_FLASH",
    "AdapterError",
    "Attend",
    "Bounds",
    "ImageFeatures",
    "MissingWeightsError",
    "Mode",
    "ModelSizes",
    "PixelRule",
    "PreparedImage",
    "Prompt",
    "Ranks",
    "RanksError",
    "SplitModel",
    "UnknownModelError",
    "UnsupportedModelError",
    "VisionLanguageModel",
    "base_of",
    "find_folders",
    "flash_attention",
    "flash_attention_why_not",
    "in_mode",
    "load_model",
    "read_sizes",
    "resolve",
    "resolve_adapter",
    "share_of",
    "why_not_split",
]
