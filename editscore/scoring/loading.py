"""From a name to a scorer: `editscore.load`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from editscore.data import cache_folder
from editscore.judges import PUBLISHED, Judge, make_judge, published_name
from editscore.scoring.arguments import check_devices, check_judge, check_seed
from editscore.scoring.cache import ResultCache
from editscore.scoring.engines import EngineSpec, open_engine
from editscore.scoring.local import MAX_ACTIVE, LocalScorer
from editscore.scoring.parallel import ParallelEngine, ParallelScorer
from editscore.scoring.reloadable import ReloadableEngine
from editscore.types import InvalidInputError

if TYPE_CHECKING:
    from editscore.engine import EngineConfig

SETTINGS_FILE = "editscore.json"
DEFAULT_MODEL = "nano"
DEFAULT_JUDGE = "pointwise"
# Keys of editscore.json that are no judge's: read here and by the model's preprocessing.
_OTHER_KEYS = ("judge", "pixels")


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    adapter: str | os.PathLike[str] | None = None,
    judge: str | Judge | None = None,
    device: str | None = None,
    devices: Sequence[str] | None = None,
    dtype: str | None = None,
    cache: str | os.PathLike[str] | bool | None = True,
    seed: int = 42,
    judge_settings: Mapping[str, Any] | None = None,
    engine_config: EngineConfig | None = None,
    max_active: int = MAX_ACTIVE,
) -> LocalScorer:
    """A scorer for `"nano"` (the judge in the package), a folder, or a hub id `owner/name[@revision]`. None is the model that the adapter
    was trained on, and without an adapter "nano".

    adapter: folder or hub id of a LoRA adapter. judge: a name, or a judge; None takes the checkpoint's own, else "pointwise".
    device: "cpu" (also for None), "cuda", "cuda:1". dtype: "float32", "bfloat16", "float16"; None fits the device.
    devices: instead of `device`, a list of them: one engine process for each, and the same scores. `max_active` counts for each. Devices
    joined by a plus, as in "cuda:0+cuda:1", share one model.
    cache: True for the platform's cache folder, a folder, or None (or False) for none. seed: of calls that name none.
    judge_settings: keys of editscore.json that replace the checkpoint's, such as {"aggregation": "average_first"}. The checkpoint's
    own settings go to the judge that it names only; any other judge gets just `judge_settings`. The prompts "published" become those
    for the checkpoint's family.

    Raises InvalidInputError naming what is wrong: model, adapter, judge, device, devices, dtype, seed or a key of the settings.
    """
    model = choose_model(model, adapter)
    if isinstance(judge, str) or judge is None:
        judge = _make_judge(judge, model, adapter, judge_settings or {})
    elif judge_settings:
        raise InvalidInputError("judge_settings", "go with the name of a judge, not with a judge that is made already")
    check_judge(judge)  # before the model is loaded
    check_seed(seed)
    check_devices(device, devices)
    base = EngineSpec(
        model,
        None if adapter is None else os.fspath(adapter),
        device or "cpu",
        dtype,
        dict(getattr(judge, "pixels", None) or {}),
        {} if engine_config is None else engine_config.model_dump(),
    )
    results = ResultCache(cache_folder() if cache is True else cache) if cache else None
    if devices is not None:
        engine = ParallelEngine([msgspec.structs.replace(base, device=each) for each in devices])
        return ParallelScorer(engine, judge, cache=results, seed=seed, max_active=max_active)
    engine_here = ReloadableEngine(partial(open_engine, base), offloads=base.offloads)
    return LocalScorer(engine_here, judge, cache=results, seed=seed, max_active=max_active)


def choose_model(model: str | os.PathLike[str] | None, adapter: str | os.PathLike[str] | None) -> str:
    """The model that `load` takes; for None it may have to look into the adapter. Raises InvalidInputError naming the one or the other."""
    if re.match(r"[a-z][a-z0-9+.-]*://", str(model), re.IGNORECASE):
        raise InvalidInputError("model", f"{model} is a URL; remote scoring is not there yet, use 'nano', a folder or a hub id")
    if model is not None:
        return os.fspath(model)
    if adapter is None:
        return DEFAULT_MODEL
    from editscore.models.vlm import base_of, resolve_adapter

    return base_of(resolve_adapter(os.fspath(adapter)))


def _make_judge(
    name: str | None, model: str | os.PathLike[str], adapter: str | os.PathLike[str] | None, settings: Mapping[str, Any]
) -> Judge:
    checkpoint = read_settings(model, adapter)
    for key in _OTHER_KEYS:
        if key in settings:
            raise InvalidInputError("judge_settings", f"{key} is no setting of a judge")
    of_checkpoint = str(checkpoint.get("judge", DEFAULT_JUDGE))
    if name is None or name == of_checkpoint:
        settings = {**{key: value for key, value in checkpoint.items() if key not in _OTHER_KEYS}, **settings}
    if settings.get("prompts") == PUBLISHED:
        settings = {**settings, "prompts": published_name(_family(model))}
    return make_judge(name or of_checkpoint, settings)


def read_settings(model: str | os.PathLike[str], adapter: str | os.PathLike[str] | None) -> dict[str, Any]:
    """The checkpoint's editscore.json, keys of the adapter's own file over it; empty where there is none."""
    from editscore.models.vlm import find_folders

    base, tuned = find_folders(os.fspath(model), None if adapter is None else os.fspath(adapter))
    settings: dict[str, Any] = {}
    for folder in (base, tuned) if tuned is not None else (base,):
        own = _read_json(folder / SETTINGS_FILE)
        if folder is tuned and "pixels" in own:
            raise InvalidInputError("pixels", f"{folder / SETTINGS_FILE}: only the base model's file sets the preprocessing")
        settings.update(own)
    return settings


def _family(model: str | os.PathLike[str]) -> str:
    """What the base model's config.json calls its kind; empty where it says nothing."""
    from editscore.models.vlm import find_folders

    return str(_read_json(find_folders(os.fspath(model), None)[0] / "config.json").get("model_type", ""))


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError("model", f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInputError("model", f"{path} holds no JSON object")
    return content
