"""Judges: what is asked about an edit, how an answer is read, how passes become a score. Plain Python, no tensors.

`make_judge(name, settings)` finds a judge by name; a new one is added to `JUDGES`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from editscore.judges.aggregation import AGGREGATIONS, Summary, pass_overall, summarize, to_ten
from editscore.judges.config import DomainConfig, PointwiseConfig, SamplingConfig, named_errors
from editscore.judges.domain import OUT_OF_DOMAIN
from editscore.judges.pointwise import PointwiseJudge
from editscore.judges.prompts import PROMPT_SETS, PromptSet, edit_images
from editscore.judges.protocol import Judge
from editscore.judges.published import PUBLISHED, PUBLISHED_SETS, find_prompts, published_name, unknown_prompts
from editscore.judges.pulled import PUBLISHED_VERSION, PulledPrompts, prompts_file, read_wheel, save_prompts
from editscore.judges.reading import Reading, read_completion, read_text
from editscore.judges.refusal import is_refusal
from editscore.types import InvalidInputError

# Name -> the judge that settings describe; an empty mapping means the defaults.
JUDGES: Mapping[str, Callable[[Mapping[str, Any]], Judge]] = MappingProxyType({"pointwise": PointwiseJudge.from_settings})


def make_judge(name: str, settings: Mapping[str, Any]) -> Judge:
    """The judge of this name with these settings. Raises InvalidInputError for an unknown name or setting.

    A factory may raise pydantic's ValidationError; it is turned into an InvalidInputError that names the setting.
    """
    if name not in JUDGES:
        raise InvalidInputError("judge", f"no judge {name!r}; known: {', '.join(JUDGES)}")
    with named_errors():
        return JUDGES[name](settings)


__all__ = [
    "AGGREGATIONS",
    "JUDGES",
    "OUT_OF_DOMAIN",
    "PROMPT_SETS",
    "PUBLISHED",
    "PUBLISHED_SETS",
    "PUBLISHED_VERSION",
    "DomainConfig",
    "Judge",
    "PointwiseConfig",
    "PointwiseJudge",
    "PromptSet",
    "PulledPrompts",
    "Reading",
    "SamplingConfig",
    "Summary",
    "edit_images",
    "find_prompts",
    "is_refusal",
    "make_judge",
    "pass_overall",
    "prompts_file",
    "published_name",
    "read_completion",
    "read_text",
    "read_wheel",
    "save_prompts",
    "summarize",
    "to_ten",
    "unknown_prompts",
]
