"""`editscore score`: one edit to a table, or a manifest to a file of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators

from editscore.cli.batch import BatchOptions, score_manifest
from editscore.cli.scorers import ScorerOptions, open_scorer
from editscore.cli.single import SingleOptions, score_one
from editscore.types import InvalidInputError

_ONE = Group("One edit", sort_key=1)
_MANY = Group("Many edits", sort_key=2)
_JUDGE = Group("Judge", sort_key=3)


def score(
    *,
    source: Annotated[str | None, Parameter(group=_ONE)] = None,
    edited: Annotated[str | None, Parameter(group=_ONE)] = None,
    instruction: Annotated[str | None, Parameter(group=_ONE)] = None,
    json: Annotated[bool, Parameter(group=_ONE, negative="", show_default=False)] = False,
    input: Annotated[Path | None, Parameter(group=_MANY)] = None,
    output: Annotated[Path | None, Parameter(group=_MANY)] = None,
    report: Annotated[Path | None, Parameter(group=_MANY)] = None,
    passes: Annotated[int, Parameter(group=_JUDGE, validator=validators.Number(gte=1, lte=1024))] = 4,
    model: Annotated[str, Parameter(group=_JUDGE)] = "nano",
    adapter: Annotated[str | None, Parameter(group=_JUDGE)] = None,
    judge: Annotated[str | None, Parameter(group=_JUDGE)] = None,
    device: Annotated[str | None, Parameter(group=_JUDGE)] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, Parameter(group=_JUDGE)] = None,
    seed: Annotated[int, Parameter(group=_JUDGE, validator=validators.Number(gte=0, lt=2**63))] = 42,
    cache: Annotated[bool, Parameter(group=_JUDGE)] = True,
) -> int:
    """Score one edit, or all edits of a manifest.

    Parameters
    ----------
    source
        The image before the edit.
    edited
        The image after the edit.
    instruction
        What the edit was asked to do.
    json
        Print the score record as JSON instead of a table.
    input
        A .jsonl or .parquet file with the fields source, edited, instruction and optionally id, or a folder with
        manifest.jsonl. Relative paths start at the manifest's folder.
    output
        The scores, one JSON line per sample in input order. A run that was cut off goes on from OUTPUT.journal.
    report
        Also write an HTML page with images, bars, reasons and passes.
    passes
        How often each edit is judged; the mean counts, and the spread is shown.
    model
        nano (the small judge that comes along), a folder, or a hub id.
    adapter
        A LoRA adapter for the model: a folder or a hub id.
    judge
        The kind of judge; by default what the checkpoint names, else pointwise.
    device
        cpu or cuda; by default the best there is.
    dtype
        Numbers to compute in; by default what suits the device.
    seed
        Fixes every random draw: the same seed gives the same scores.
    cache
        Keep and reuse the answer of every pass on disk.
    """
    options = ScorerOptions(model=model, adapter=adapter, judge=judge, device=device, dtype=dtype, seed=seed, use_cache=cache)
    one, many = (source, edited, instruction), (input, output)
    if any(value is not None for value in one) and any(value is not None for value in many):
        raise InvalidInputError("usage", "give either --source, --edited and --instruction, or --input and --output")
    if input is not None or output is not None:
        if json:
            raise InvalidInputError("usage", "--json goes with one edit; --output is JSON lines already")
        return score_manifest(_batch(input, output, report, passes, options), open_scorer=open_scorer)
    return score_one(_single(source, edited, instruction, report, passes, options, json), open_scorer=open_scorer)


def _batch(input: Path | None, output: Path | None, report: Path | None, passes: int, options: ScorerOptions) -> BatchOptions:
    if input is None:
        raise InvalidInputError("usage", "--output needs --input")
    if output is None:
        raise InvalidInputError("usage", "--input needs --output")
    return BatchOptions(input=input, output=output, report=report, passes=passes, scorer=options)


def _single(
    source: str | None, edited: str | None, instruction: str | None, report: Path | None, passes: int, options: ScorerOptions, json: bool
) -> SingleOptions:
    missing = [name for name, value in (("--source", source), ("--edited", edited), ("--instruction", instruction)) if value is None]
    if len(missing) == 3:
        raise InvalidInputError("usage", "give --source, --edited and --instruction, or --input and --output")
    if source is None or edited is None or instruction is None:
        raise InvalidInputError("usage", f"{' and '.join(missing)} missing")
    return SingleOptions(source, edited, instruction, report=report, passes=passes, scorer=options, as_json=json)
