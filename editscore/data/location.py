"""Where this machine keeps what EditScore can make or fetch again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """`editscore/` in $XDG_CACHE_HOME or in the platform's folder for caches."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # a relative path is to be ignored, says the XDG specification
        return Path(chosen) / "editscore"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "editscore"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "editscore" / "cache"
    return Path.home() / ".cache" / "editscore"
