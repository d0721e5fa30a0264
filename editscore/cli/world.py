"""`editscore world`: EditWorld's edits on disk and on a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter, validators

from editscore.cli.exits import DONE
from editscore.types import InvalidInputError

_COUNT = validators.Number(gte=1)
_SEED = validators.Number(gte=0, lt=2**63)

app = cyclopts.App(
    name="world",
    help="EditWorld: a small world of simple scenes whose edits have known scores.",
    help_format="plaintext",
    help_epilogue="""Examples:
  editscore world make --num 200 --seed 7 --output groups
  editscore score --input groups --output scores.jsonl --report page.html
  editscore world sheet --output sheet.png""",
)


@app.command
def make(
    *,
    output: Path,
    num: Annotated[int, Parameter(validator=_COUNT)] = 200,
    seed: Annotated[int, Parameter(validator=_SEED)] = 7,
    edits: Annotated[int, Parameter(validator=_COUNT)] = 4,
    size: Annotated[int, Parameter(validator=_COUNT)] = 84,
    split: Literal["train", "dev", "report"] = "report",
    photos: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    parquet: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Write groups of edits: PNG files and a manifest with the true scores, which `editscore score --input` reads.

    Parameters
    ----------
    output
        The folder to write to.
    num
        How many groups; each has one source, one instruction and some edits of it.
    seed
        The same seed gives the same bytes on any machine.
    edits
        Candidates of one group, each by another simulated editor.
    size
        Side of the pictures in pixels.
    split
        train, dev and report never share a group.
    photos
        Put a quarter of the scenes on photographs (those that come with scikit-image).
    parquet
        Write manifest.parquet instead of manifest.jsonl; needs pyarrow.
    """
    from editscore.world import write_groups

    pictures = _photos(split) if photos else ()
    path = write_groups(output, num=num, seed=seed, split=split, num_edits=edits, size=size, parquet=parquet, photos=pictures)
    print(f"{num} groups of {edits} edits: {path}")
    return DONE


@app.command
def sheet(
    *,
    output: Path,
    num: Annotated[int, Parameter(validator=_COUNT)] = 13,
    seed: Annotated[int, Parameter(validator=_SEED)] = 7,
    edits: Annotated[int, Parameter(validator=_COUNT)] = 5,
    size: Annotated[int, Parameter(validator=_COUNT)] = 168,
    split: Literal["train", "dev", "report"] = "report",
    photos: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Draw groups as one PNG: a row per group, the source, its edits, their true scores and reasons.

    Parameters
    ----------
    output
        The PNG file to write.
    num
        Rows; the thirteen tasks take turns.
    seed
        The same seed gives the same picture.
    edits
        Edits in a row.
    size
        Side of the pictures in pixels.
    split
        train, dev or report.
    photos
        Put a quarter of the scenes on photographs (those that come with scikit-image).
    """
    from editscore.world import draw_sheet

    pictures = _photos(split) if photos else ()
    print(draw_sheet(output, num=num, seed=seed, split=split, num_edits=edits, size=size, photos=pictures))
    return DONE


def _photos(split: Literal["train", "dev", "report"]) -> tuple[Any, ...]:
    from editscore.world import load_photos

    pictures = load_photos(split)
    if not pictures:
        raise InvalidInputError("photos", "no photographs here: pip install scikit-image")
    return pictures
