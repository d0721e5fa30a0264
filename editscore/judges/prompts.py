"""Prompt sets: how the two questions about an edit are put. A set is a value with two functions; others can be added beside these.

SC (semantic consistency) sees both images, PQ (perceptual quality) sees the edited image only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from editscore.judges import rubric
from editscore.types import EditSample, Image, ImagePart, Message, TextPart

_WORD = re.compile(r"[^\W_]+")
Ask = Callable[[EditSample, int], tuple[Message, ...]]


@dataclass(frozen=True)
class PromptSet:
    """`sc(sample, score_range)` and `pq(sample, score_range)` give the messages of the two questions; images are `Image` records.

    `pixels`: limits of an image's area (`min_pixels`, `max_pixels`) that the prompts were made with; empty leaves them to the checkpoint.
    """

    name: str
    sc: Ask
    pq: Ask
    pixels: Mapping[str, int] = field(default_factory=dict)

    def digest(self, score_range: int) -> str:
        """SHA-256 (hex) of both questions about a stand-in sample: it changes with every word of the prompts."""
        stand_in = EditSample(source=Image(1, 1, b"src"), edited=Image(1, 1, b"out"), instruction='an "instruction"')
        questions = [[_content(m) for m in ask(stand_in, score_range)] for ask in (self.sc, self.pq)]
        return hashlib.sha256(msgspec.json.encode([self.name, questions])).hexdigest()


def words_of(text: str) -> list[str]:
    """The words of a text in lower case: letters and digits of any script; everything else separates words."""
    return _WORD.findall(text.lower())


def _content(message: Message) -> list[object]:
    parts = [[part.text] if isinstance(part, TextPart) else [part.label, part.image.digest] for part in message.parts]
    return [message.role, parts]


def edit_images(sample: EditSample) -> tuple[Image, Image]:
    """Source and edited of a resolved sample; TypeError for one whose images are still paths."""
    if not isinstance(sample.source, Image) or not isinstance(sample.edited, Image):
        raise TypeError("a judge needs a sample whose images are decoded (editscore.data.load_sample)")
    return sample.source, sample.edited


def _rules(task: str, score_range: int) -> Message:
    marks = {"top": score_range, "high": _mark(score_range, 0.8), "middle": _mark(score_range, 0.5), "low": _mark(score_range, 0.2)}
    return Message("system", (TextPart((rubric.COMMON + task + rubric.ANSWER).format(**marks)),))


def _mark(score_range: int, share: float) -> int:
    return round(score_range * share)


def _default_sc(sample: EditSample, score_range: int) -> tuple[Message, ...]:
    source, edited = edit_images(sample)
    request = rubric.SC_CLOSING.format(request=json.dumps(sample.instruction, ensure_ascii=False))
    parts = (
        TextPart(rubric.ORIGINAL_LABEL),
        ImagePart(source),
        TextPart(rubric.EDITED_LABEL),
        ImagePart(edited),
        TextPart(request),
    )
    return _rules(rubric.SC_TASK, score_range), Message("user", parts)


def _default_pq(sample: EditSample, score_range: int) -> tuple[Message, ...]:
    _, edited = edit_images(sample)
    parts = (TextPart(rubric.PICTURE_LABEL), ImagePart(edited), TextPart(rubric.PQ_CLOSING))
    return _rules(rubric.PQ_TASK, score_range), Message("user", parts)


def _nano_sc(sample: EditSample, score_range: int) -> tuple[Message, ...]:
    source, edited = edit_images(sample)
    # EditWorld's instructions are lower-case words and nothing else: "Make the car red." becomes one of them, they stay as they are.
    request = " ".join(words_of(sample.instruction)) or sample.instruction
    return (Message("user", (TextPart(request), ImagePart(source), ImagePart(edited))),)


def _nano_pq(sample: EditSample, score_range: int) -> tuple[Message, ...]:
    _, edited = edit_images(sample)
    return (Message("user", (TextPart("quality"), ImagePart(edited))),)


PROMPT_SETS: Mapping[str, PromptSet] = MappingProxyType(
    {
        "default": PromptSet("default", _default_sc, _default_pq),
        "nano": PromptSet("nano", _nano_sc, _nano_pq),
    }
)
