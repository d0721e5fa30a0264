"""The world's whole vocabulary: every word that an instruction or a reason can hold."""

import re
from functools import cache

from editscore.world.faults import CAST_COLORS
from editscore.world.instructions import ACCESSORY_PHRASES, PHRASES, STYLE_NOUNS
from editscore.world.palette import (
    ACCESSORIES,
    BACKGROUND_COLORS,
    BACKGROUNDS,
    COLORS,
    EXPRESSIONS,
    GRADES,
    MATERIALS,
    PAINTED_FAULTS,
    PLACES,
    SHAPES,
    STYLES,
    TEXTS,
    TONES,
)

# Words of the sentences that compare.py and oracle.py build.
_REASON_WORDS = """
    added also background broken cast clean color cropped extra extracted face ghost grew hair half image
    kept lost material more mostly moved not object on place removed replaced rest says shape shifted shrank slightly strongly style text
    tone turned unchanged wears with wrong a an at and then the to
"""

_UNSPOKEN = frozenset(("none", "photo"))  # names that no sentence uses


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word (lower case letters), sorted. Punctuation: `,` and `;` follow a word directly."""
    texts = [*sum(PHRASES.values(), ()), *sum(ACCESSORY_PHRASES.values(), ()), *STYLE_NOUNS.values(), _REASON_WORDS]
    for names in (SHAPES, COLORS, MATERIALS, BACKGROUND_COLORS, BACKGROUNDS, TONES, STYLES, EXPRESSIONS, ACCESSORIES, TEXTS):
        texts += names
    texts += [*PLACES, *PAINTED_FAULTS, *GRADES, *CAST_COLORS]
    words = {w for text in texts for w in words_of(re.sub(r"\{.\}", " ", text))}
    return tuple(sorted(words - _UNSPOKEN))


def words_of(text: str) -> list[str]:
    """The words of an instruction or a reason, punctuation left out."""
    return re.findall(r"[a-z]+", text)
