"""A contact sheet: one row per task, the source and its edits with scores, instruction and reasons, as one PNG."""

import os
from pathlib import Path
from typing import Final

from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from editscore.data import atomic_write
from editscore.types import InvalidInputError
from editscore.world.groups import MAX_EDITS, sample_group
from editscore.world.palette import TASKS
from editscore.world.records import Group, GroupEdit, Pixels, Split

_PAPER: Final = (247, 245, 240)
_CARD: Final = (255, 255, 255)
_EDGE: Final = (226, 222, 212)
_INK: Final = (38, 36, 44)
_SOFT: Final = (128, 122, 132)
_BARS: Final = (("f", (86, 130, 210)), ("k", (78, 168, 136)), ("n", (226, 158, 68)), ("c", (196, 98, 144)))
_LEGEND: Final = "oracle: overall 0..10, then 0..25 each: f follows the instruction, k keeps the rest, n natural, c clean"
_GAP: Final = 14
_TOP: Final = 34  # height of the legend
_HEAD: Final = 46  # height of a row's title, pixels
_FOOT: Final = 118  # height below a tile
_MOST_ROWS: Final = 500


def draw_sheet(
    path: str | os.PathLike[str],
    *,
    num: int = len(TASKS),
    seed: int = 0,
    split: Split = "report",
    num_edits: int = 5,
    size: int = 168,
    photos: tuple[Pixels, ...] = (),
) -> Path:
    """Draw groups 0 .. num-1 (the tasks take turns) as a PNG and return its path. `size` = a picture's side in pixels."""
    if not 1 <= num <= _MOST_ROWS:
        raise InvalidInputError("num", f"must be 1..{_MOST_ROWS}, is {num}")
    if not 1 <= num_edits <= MAX_EDITS:
        raise InvalidInputError("num_edits", f"must be 1..{MAX_EDITS}, is {num_edits}")
    row_height = _HEAD + size + _FOOT + _GAP
    width = _GAP + (num_edits + 1) * (size + _GAP)
    sheet = PillowImage.new("RGB", (width, _TOP + num * row_height), _PAPER)
    ImageDraw.Draw(sheet).text((_GAP, 10), _LEGEND, fill=_SOFT, font=_font(13))
    for index in range(num):
        group = sample_group(split, index, seed=seed, num_edits=num_edits, size=size, photos=photos)
        _draw_row(sheet, group, _TOP + index * row_height, size)
    target = Path(path)
    with atomic_write(target) as file:
        sheet.save(file, format="PNG")
    return target


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _draw_row(sheet: PillowImage.Image, group: Group, top: int, size: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, top + 2), group.task_type, fill=_SOFT, font=_font(13))
    draw.text((_GAP, top + 18), group.instruction, fill=_INK, font=_font(19))
    _draw_tile(sheet, group.source, _GAP, top + _HEAD, size)
    draw.text((_GAP + 8, top + _HEAD + size + 6), "source", fill=_SOFT, font=_font(13))
    for k, edit in enumerate(group.edits):
        left = _GAP + (k + 1) * (size + _GAP)
        _draw_tile(sheet, edit.image, left, top + _HEAD, size)
        _draw_verdict(draw, edit, left, top + _HEAD + size, size)


def _draw_tile(sheet: PillowImage.Image, pixels: Pixels, left: int, top: int, size: int) -> None:
    """A card with the picture on it and room for the words below."""
    draw = ImageDraw.Draw(sheet)
    draw.rounded_rectangle((left - 4, top - 4, left + size + 3, top + size + _FOOT - 6), 8, fill=_CARD, outline=_EDGE)
    sheet.paste(PillowImage.fromarray(pixels), (left, top))


def _draw_verdict(draw: ImageDraw.ImageDraw, edit: GroupEdit, left: int, top: int, size: int) -> None:
    verdict = edit.verdict
    overall = verdict.overall
    good = overall / 10
    pill = (int(214 - 150 * good), int(84 + 84 * good), int(84 + 16 * good))
    draw.rounded_rectangle((left + 4, top + 6, left + 40, top + 26), 10, fill=pill)
    draw.text((left + 22, top + 16), f"{overall:.1f}", fill=_CARD, font=_font(14), anchor="mm")
    draw.text((left + 48, top + 16), edit.editor, fill=_SOFT, font=_font(13), anchor="lm")
    values = (verdict.prompt_following, verdict.consistency, verdict.naturalness, verdict.artifacts)
    step = (size - 8) / 4
    for k, ((name, color), value) in enumerate(zip(_BARS, values, strict=True)):
        x = left + 4 + k * step
        draw.rectangle((x, top + 43, x + step - 6, top + 47), fill=_EDGE)
        if value:
            draw.rectangle((x, top + 43, x + (step - 6) * value / 25, top + 47), fill=color)
        draw.text((x, top + 30), f"{name} {value}", fill=_SOFT, font=_font(10))
    lines = _wrapped(draw, f"{verdict.sc_reason}. {verdict.pq_reason}", size - 8)
    for k, line in enumerate(lines[:5]):
        draw.text((left + 4, top + 51 + 12 * k), line, fill=_INK, font=_font(10))


def _wrapped(draw: ImageDraw.ImageDraw, text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=_font(10)) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
