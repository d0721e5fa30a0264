"""`editscore score`: one edit to a table, or a manifest to a file of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators
from msgspec.structs import replace

from editscore.cli.batch import BatchOptions, score_manifest
from editscore.cli.scorers import ScorerOptions, open_scorer
from editscore.cli.single import SingleOptions, score_one
from editscore.types import InvalidInputError

_ONE = Group("One edit", sort_key=1)
_MANY = Group("Many edits", sort_key=2)
_JUDGE = Group("Judge", sort_key=3)
_RUN = Group("The run", sort_key=4)


def _text(group: Group, words: str) -> Parameter:
    return Parameter(group=group, help=words)


_MANIFEST = """A .jsonl or .parquet file with the fields source, edited, instruction and optionally id, or a folder with manifest.jsonl. \
Relative paths start at the manifest's folder."""
_OUTPUT = "The scores, one JSON line per sample in input order. A run that was cut off goes on from OUTPUT.journal."
Source = Annotated[str | None, _text(_ONE, "The image before the edit.")]
Edited = Annotated[str | None, _text(_ONE, "The image after the edit.")]
Instruction = Annotated[str | None, _text(_ONE, "What the edit was asked to do.")]
AsJson = Annotated[bool, Parameter(group=_ONE, negative="", show_default=False, help="Print the score record as JSON instead of a table.")]
Input = Annotated[Path | None, _text(_MANY, _MANIFEST)]
Output = Annotated[Path | None, _text(_MANY, _OUTPUT)]
Report = Annotated[Path | None, _text(_MANY, "Also write an HTML page with images, bars, reasons and passes (goes with one edit, too).")]
Passes = Annotated[int, Parameter(group=_JUDGE, validator=validators.Number(gte=1, lte=1024), help="How often each edit is judged.")]
Model = Annotated[
    str | None, _text(_JUDGE, "nano (the small judge that comes along), a folder, or a hub id; by default the adapter's, else nano.")
]
Adapter = Annotated[str | None, _text(_JUDGE, "A LoRA adapter for the model: a folder or a hub id.")]
Judge = Annotated[str | None, _text(_JUDGE, "The kind of judge; by default what the checkpoint names, else pointwise.")]
Prompts = Annotated[str | None, _text(_JUDGE, "default, nano or published (editscore pull prompts); by default what the checkpoint names.")]
Device = Annotated[str | None, _text(_JUDGE, "cpu (the default), cuda or cuda:1.")]
Devices = Annotated[
    str | None, _text(_JUDGE, "Several, as in cuda:0,cuda:1: a process for each, and the same scores. cuda:0+cuda:1 share a model.")
]
DType = Annotated[
    Literal["float32", "bfloat16", "float16"] | None, _text(_JUDGE, "Numbers to compute in; by default what suits the device.")
]
MemoryGb = Annotated[
    float | None, Parameter(group=_JUDGE, validator=validators.Number(gt=0), help="Stay within so many GB, weights included, per device.")
]
Seed = Annotated[int, Parameter(group=_JUDGE, validator=validators.Number(gte=0, lt=2**63), help="The same seed gives the same scores.")]
Cache = Annotated[bool, _text(_JUDGE, "Keep and reuse the answer of every pass on disk.")]
Progress = Annotated[bool, _text(_RUN, "Of many edits: a bar on a terminal, elsewhere a line every ten seconds.")]
Profile = Annotated[Path | None, _text(_RUN, "Write where the engine's time went as a Chrome trace (.json, for ui.perfetto.dev).")]


def score(
    *,
    source: Source = None,
    edited: Edited = None,
    instruction: Instruction = None,
    json: AsJson = False,
    input: Input = None,
    output: Output = None,
    report: Report = None,
    passes: Passes = 4,
    model: Model = None,
    adapter: Adapter = None,
    judge: Judge = None,
    prompts: Prompts = None,
    device: Device = None,
    devices: Devices = None,
    dtype: DType = None,
    memory_gb: MemoryGb = None,
    seed: Seed = 42,
    cache: Cache = True,
    progress: Progress = True,
    profile: Profile = None,
) -> int:
    """Score one edit, or all edits of a manifest."""
    if judge is not None:
        _check_judge(judge)
    if prompts is not None:
        _check_prompts(prompts)
    spread = None if devices is None else tuple(each.strip() for each in devices.split(","))
    from editscore.scoring.loading import choose_model  # which imports torch only to look into an adapter

    model = choose_model(model, adapter)
    options = ScorerOptions(model, adapter, judge, prompts, device, spread, dtype, memory_gb, seed=seed, use_cache=cache)
    one, many = (source, edited, instruction), (input, output)
    if any(value is not None for value in one) and any(value is not None for value in many):
        raise InvalidInputError("usage", "give either --source, --edited and --instruction, or --input and --output")
    if input is not None or output is not None:
        if json:
            raise InvalidInputError("usage", "--json goes with one edit; --output is JSON lines already")
        batch = _batch(input, output, report, passes, options)
        return score_manifest(replace(batch, profile=profile, shows_progress=progress), open_scorer=open_scorer)
    single = _single(source, edited, instruction, report, passes, options, json)
    return score_one(replace(single, profile=profile), open_scorer=open_scorer)


def _check_judge(judge: str) -> None:
    """Names an unknown judge before torch is loaded, which takes seconds."""
    from editscore.judges import JUDGES

    if judge not in JUDGES:
        raise InvalidInputError("judge", f"no judge {judge!r}; known: {', '.join(JUDGES)}")


def _check_prompts(prompts: str) -> None:
    """Names prompts that are unknown, or not on this machine, before torch is loaded."""
    from editscore.judges import PUBLISHED, PUBLISHED_SETS, find_prompts

    find_prompts(PUBLISHED_SETS[0] if prompts == PUBLISHED else prompts)


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
