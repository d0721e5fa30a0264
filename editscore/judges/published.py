"""The published prompt sets: what EditScore's own checkpoints were trained on, put together as the published code does it.

SC is the context, the rule of two images and the SC rule, PQ the context and the PQ rule, line by line. The images come first, then
the text. As in the published benchmark, PQ sees the edited image only. Each family of checkpoints has its own layout:

- qwen2_5_vl: the published code writes the turns itself, with the stock system sentence and a label before each image;
- qwen3_vl: the checkpoint's own chat template, no system turn, no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from editscore.judges.prompts import PROMPT_SETS, PromptSet, edit_images
from editscore.judges.pulled import CONTEXT, PQ_RULE, SC_RULE, SYSTEM, TWO_IMAGES, load_prompts
from editscore.types import EditSample, Image, ImagePart, InvalidInputError, Message, TextPart

PUBLISHED = "published"
# The rules are written for grades of 0..10; the published code puts another range in the place of every "10" in them.
_WRITTEN_RANGE = "10"
_INSTRUCTION = "<instruction>"


@dataclass(frozen=True)
class Layout:
    """How a family of checkpoints was shown the prompts. `label` has a place for the image's number; empty means none.

    `pixels` are the limits of an image's area under which the published Hugging Face backend resizes.
    """

    label: str
    has_system: bool
    pixels: Mapping[str, int]


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "qwen2_5_vl": Layout("<img{}>: ", True, MappingProxyType({"min_pixels": 3136, "max_pixels": 12_845_056})),
        "qwen3_vl": Layout("", False, MappingProxyType({"min_pixels": 65_536, "max_pixels": 16_777_216})),
    }
)
PUBLISHED_SETS = tuple(f"{PUBLISHED}-{family}" for family in LAYOUTS)


def published_name(family: str) -> str:
    """The set for checkpoints of this family (`model_type` in config.json). Raises InvalidInputError for one that has none."""
    if family not in LAYOUTS:
        raise InvalidInputError("prompts", f"the published prompts are laid out for {', '.join(LAYOUTS)}, not for {family or 'this model'}")
    return f"{PUBLISHED}-{family}"


def find_prompts(name: str) -> PromptSet:
    """The prompt set of this name. Raises InvalidInputError("prompts") for an unknown one and for published ones not pulled yet."""
    if name in PROMPT_SETS:
        return PROMPT_SETS[name]
    if name in PUBLISHED_SETS:
        return published_set(name.removeprefix(f"{PUBLISHED}-"), load_prompts())
    raise InvalidInputError("prompts", unknown_prompts(name))


def unknown_prompts(name: str) -> str:
    """What to say of a name that is no prompt set."""
    if name == PUBLISHED:
        return f"{name!r} needs a checkpoint to choose between {' and '.join(PUBLISHED_SETS)}; name one of these"
    return f"{name!r} is none of {', '.join((*PROMPT_SETS, PUBLISHED, *PUBLISHED_SETS))}"


def published_set(family: str, texts: Mapping[str, str]) -> PromptSet:
    """The set of one family from the published texts."""
    layout = LAYOUTS[family]

    def messages(images: tuple[Image, ...], text: str) -> tuple[Message, ...]:
        shown = [ImagePart(image, layout.label.format(number)) for number, image in enumerate(images, 1)]
        system = (Message("system", (TextPart(texts[SYSTEM]),)),) if layout.has_system else ()
        return (*system, Message("user", (*shown, TextPart(text))))

    def rule(name: str, score_range: int) -> str:
        return texts[name].replace(_WRITTEN_RANGE, str(score_range))

    def sc(sample: EditSample, score_range: int) -> tuple[Message, ...]:
        template = "\n".join((texts[CONTEXT], texts[TWO_IMAGES], rule(SC_RULE, score_range)))
        # Last, so that a number in an instruction stays as it is.
        return messages(edit_images(sample), template.replace(_INSTRUCTION, sample.instruction))

    def pq(sample: EditSample, score_range: int) -> tuple[Message, ...]:
        _, edited = edit_images(sample)
        return messages((edited,), "\n".join((texts[CONTEXT], rule(PQ_RULE, score_range))))

    return PromptSet(f"{PUBLISHED}-{family}", sc, pq, layout.pixels)
