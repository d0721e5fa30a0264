"""The findings of `editscore doctor`, section by section, as names and plain sentences."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import msgspec

from editscore.cli.app import version
from editscore.cli.scorers import OpenScorer, ScorerOptions, open_scorer
from editscore.types import EditSample, InvalidInputError, Status

_NEEDED = ("torch", "transformers", "tokenizers", "safetensors", "llguidance", "json-repair", "numpy", "pillow", "msgspec", "pydantic")
_OPTIONAL = {"triton": "pip install triton", "peft": "pip install peft", "pyarrow": "pip install 'editscore[data]'"}
_ARCHITECTURES = ("qwen2_5_vl", "qwen3_vl")


def versions() -> dict[str, str]:
    """Package -> version, or how to get it."""
    found = {"editscore": version(), "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}"}
    for name in _NEEDED:
        found[name] = _version(name) or "missing: reinstall editscore"
    for name, remedy in _OPTIONAL.items():
        found[name] = _version(name) or f"not installed (optional: {remedy})"
    vision = _version("torchvision")
    if vision:
        found["torchvision"] = f"{vision}: not needed; beside a CPU build of torch it breaks transformers (pip uninstall torchvision)"
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def devices() -> dict[str, str]:
    """The processor and every CUDA device, or why there is none."""
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = {"cpu": f"{_processor()}, {usable} cores, {torch.get_num_threads()} torch threads{_memory()}"}
    if not torch.cuda.is_available():
        found["cuda"] = f"no: {'this torch is a CPU build' if torch.version.cuda is None else 'no device or no driver'}"
        return found
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{facts.name}, sm_{facts.major}{facts.minor}, {facts.total_memory / 2**30:.0f} GiB"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    except (ValueError, OSError, AttributeError):  # not every system tells
        return ""


def kernels() -> dict[str, str]:
    """`op / backend` -> "yes" or why it cannot run here; `auto` takes the first yes."""
    from editscore_kernels import OPS, explain
    from editscore_kernels.invariant_linear import unavailable

    from editscore.models.vlm import flash_attention_why_not

    found = {f"{op} / {backend}": reason for op in OPS for backend, reason in explain(op)}
    flash = flash_attention_why_not() or "yes"
    return found | {"exact mode on a GPU / triton": unavailable() or "yes", "vision tower, and prefill in fast mode / flash-attn": flash}


def models() -> dict[str, str]:
    """The embedded judge, and the Qwen-VL checkpoints in the hub's local cache."""
    from editscore.models.vlm import resolve

    try:
        folder = resolve("nano")
        size = sum(file.stat().st_size for file in folder.iterdir())
        found = {"nano": f"{size / 1e6:.1f} MB in {folder}" if any(folder.glob("*.safetensors")) else f"no weights in {folder}"}
    except InvalidInputError as error:
        found = {"nano": f"no: {error}"}
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = _cached_checkpoints(Path(HF_HUB_CACHE))
    return {
        **found,
        **(cached or {"hub cache": f"no Qwen-VL checkpoint in {HF_HUB_CACHE}"}),
        "published prompts": _prompts(),
        "result cache": _result_cache(),
    }


def _prompts() -> str:
    from editscore.judges import PUBLISHED_SETS, find_prompts, prompts_file

    try:
        find_prompts(PUBLISHED_SETS[0])
    except InvalidInputError as error:
        return f"no: {str(error).removeprefix(f'{error.field}: ')}"
    return f"in {prompts_file()}"


def _result_cache() -> str:
    from editscore.scoring import cache_folder

    folder = cache_folder()
    files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    size = sum(file.stat().st_size for file in files)
    return f"{size / 1e6:.1f} MB in {folder}" if files else f"empty ({folder})"


def _cached_checkpoints(cache: Path) -> dict[str, str]:
    found = {}
    for config in sorted(cache.glob("models--*/snapshots/*/config.json")):
        try:
            kind = msgspec.json.decode(config.read_bytes(), type=dict).get("model_type")
        except (OSError, msgspec.DecodeError, msgspec.ValidationError):
            continue  # a download that was cut off
        if kind in _ARCHITECTURES:
            snapshot = config.parent
            found[snapshot.parent.parent.name.removeprefix("models--").replace("--", "/")] = f"{kind}, revision {snapshot.name[:12]}"
    return found


def self_test(open_scorer: OpenScorer = open_scorer) -> tuple[bool | None, dict[str, str]]:
    """Score one edit of EditWorld with nano: (passed, or None where it could not run; the finding)."""
    from editscore.data import to_image
    from editscore.world import sample_group

    group = sample_group("dev", 0, num_edits=1)
    started = time.perf_counter()
    edit = group.edits[0]
    sample = EditSample(source=to_image(group.source), edited=to_image(edit.image), instruction=group.instruction, id="self-test")
    try:
        with open_scorer(ScorerOptions(use_cache=False)) as scorer:
            ((_, score),) = scorer.score_iter([sample], passes=1)
    except InvalidInputError as error:
        return (None if error.field == "model" else False), {"nano": f"not run: {error}"}
    seconds = time.perf_counter() - started
    if score.status is not Status.OK or score.overall is None:
        return False, {"nano": f"failed: {score.status.value}: {score.message}"}
    asked = f"{group.instruction!r}, true overall {edit.verdict.overall:.1f}"
    return True, {"nano": f"passed: {asked}, scored {score.overall:.1f} in {seconds:.1f} s with one pass"}
