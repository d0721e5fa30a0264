"""Is a sample inside the world that a checkpoint knows? Its words are looked up, its images are the model's own head's business."""

from __future__ import annotations

from editscore.judges.config import DomainConfig
from editscore.judges.prompts import words_of
from editscore.types import Completion

OUT_OF_DOMAIN = "out_of_domain"


def has_unknown_words(instruction: str, domain: DomainConfig) -> bool:
    """True when a word is missing from a vocabulary that is given, or when there is no word at all."""
    if not domain.vocabulary:
        return False
    words = words_of(instruction)
    return not words or not set(words) <= set(domain.vocabulary)


def is_outside_by_head(completion: Completion, domain: DomainConfig) -> bool:
    """True when the head's first value is below the threshold (or no number). False where the head was not read."""
    values = completion.heads.get(domain.head or "", ())
    return bool(values) and not values[0] >= domain.threshold
