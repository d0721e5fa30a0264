"""A sample becomes ready to judge: both images decoded, the instruction checked."""

from __future__ import annotations

from editscore.data.images import to_image
from editscore.types import MAX_INSTRUCTION_CHARACTERS, EditSample, Image, InvalidInputError


def load_sample(sample: EditSample) -> EditSample:
    """The sample with both images as `Image`. Raises InvalidInputError naming the field, and the file where there is one."""
    check_instruction(sample.instruction)
    if isinstance(sample.source, Image) and isinstance(sample.edited, Image):
        return sample
    source = to_image(sample.source, "source")
    edited = to_image(sample.edited, "edited")
    return EditSample(source=source, edited=edited, instruction=sample.instruction, id=sample.id)


def check_instruction(instruction: str) -> None:
    """Raise InvalidInputError unless the text has 1..10,000 characters, not all of them white space, and is valid Unicode."""
    if not instruction.strip():
        raise InvalidInputError("instruction", "is empty")
    if len(instruction) > MAX_INSTRUCTION_CHARACTERS:
        raise InvalidInputError("instruction", f"has {len(instruction):,} characters; the limit is {MAX_INSTRUCTION_CHARACTERS:,}")
    try:
        instruction.encode("utf-8")
    except UnicodeEncodeError as cause:
        raise InvalidInputError("instruction", f"is not valid Unicode at character {cause.start}: a lone surrogate") from cause
