"""From a name to a folder on this machine: the embedded judge, a local folder, or a repository of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from editscore.models.vlm.errors import AdapterError, UnknownModelError

NANO_FOLDER = Path(__file__).parent / "nano"
# Weights as safetensors and the text files around them; never pickles, never code.
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.txt"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def resolve(path_or_id: str | Path) -> Path:
    """The folder of a model or an adapter: `"nano"`, a folder, or a hub id `owner/name[@revision]` (downloaded if need be).

    Raises `UnknownModelError` that says what was looked for.
    """
    if str(path_or_id) == "nano":
        if not NANO_FOLDER.is_dir():
            raise UnknownModelError(f"the embedded judge 'nano' is not in this installation (looked in {NANO_FOLDER})")
        return NANO_FOLDER
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UnknownModelError(f"{folder} is a file; a model is a folder")
    name = str(path_or_id)
    if not _HUB_ID.fullmatch(name):
        raise UnknownModelError(f"no model {name!r}: not 'nano', no folder {folder.absolute()}, and no hub id of the form owner/name")
    return _download(name, folder)


def resolve_adapter(path_or_id: str | Path) -> Path:
    """The folder of an adapter, found as a model is. Raises `AdapterError`."""
    try:
        return resolve(path_or_id)
    except UnknownModelError as error:
        raise AdapterError(str(error).removeprefix(f"{error.field}: ")) from error


def _download(name: str, folder: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=HUB_PATTERNS))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnknownModelError(
            f"no model {name!r}: no folder {folder.absolute()}, and the hub repository could not be read ({reason})"
        ) from error
