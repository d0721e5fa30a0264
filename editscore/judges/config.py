"""The configuration of the pointwise judge, and how a checkpoint's `editscore.json` sets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from editscore.judges.prompts import PROMPT_SETS
from editscore.judges.published import PUBLISHED_SETS, unknown_prompts
from editscore.types import InvalidInputError, Sampling

# Keys of editscore.json that are read elsewhere: by the loader and by the model's preprocessing.
_OTHER_KEYS = ("judge", "pixels")


class SamplingConfig(BaseModel):
    """How tokens are drawn, as published by default; there is no repetition penalty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=0.7, ge=0.0, le=100.0)
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    top_k: int = Field(default=20, ge=0)

    def resolve(self) -> Sampling:
        """The same as the record that requests hold."""
        return Sampling(self.temperature, self.top_p, self.top_k)


class DomainConfig(BaseModel):
    """What a checkpoint was trained on. A sample outside gets the warning `out_of_domain`.

    `vocabulary`: every lower-case word that an instruction may hold; empty means any. `head`: the head whose first value, read at
    the end of the SC prompt, is below `threshold` outside the domain; None means that there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: str | None = None
    threshold: float = 0.0
    vocabulary: tuple[str, ...] = ()


class PointwiseConfig(BaseModel):
    """What the pointwise judge asks and how it reads and averages.

    `score_range`: grades are 0..score_range. `max_reasoning_tokens`, `on_limit`: length of the reasoning, and whether one that
    reaches it fails the pass or is closed. `constrained`: the answer's shape is held by a grammar; False leaves the text free
    (with 24 tokens more for the JSON around the reasoning) and reads it strictly. `max_retries`: how often a failed pass is asked
    again, each time with a new seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts: str = "default"
    score_range: int = Field(default=25, ge=1, le=100)
    max_reasoning_tokens: int = Field(default=512, ge=1, le=8192)
    on_limit: Literal["fail", "close"] = "fail"
    constrained: bool = True
    sampling: SamplingConfig = SamplingConfig()
    aggregation: Literal["average_last", "average_first"] = "average_last"
    max_retries: int = Field(default=2, ge=0, le=10)
    domain: DomainConfig = DomainConfig()

    @model_validator(mode="after")
    def _known_prompts(self) -> Self:
        if self.prompts not in (*PROMPT_SETS, *PUBLISHED_SETS):
            raise ValueError(f"prompts: {unknown_prompts(self.prompts)}")
        return self

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PointwiseConfig:
        """The configuration from the content of an `editscore.json`, defaults for what it leaves out.

        Raises InvalidInputError naming the key that is unknown or has a wrong value.
        """
        with named_errors(cls):
            return cls.model_validate({key: value for key, value in settings.items() if key not in _OTHER_KEYS})


@contextmanager
def named_errors(config: type[BaseModel] | None = None) -> Iterator[None]:
    """A pydantic ValidationError in the block becomes an InvalidInputError that names the setting.

    `config`, where it is known, lists the names that would have been right.
    """
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] != "extra_forbidden":
            raise InvalidInputError(field or "judge_settings", str(first["msg"])) from error
        known = f"none of {', '.join(config.model_fields)}" if config and len(first["loc"]) == 1 else "no setting of this judge"
        raise InvalidInputError("judge_settings", f"{field} is {known}") from error
