"""Texts of users and models on a terminal."""

from __future__ import annotations

import re

# C0, C1 and lone surrogates: an escape sequence inside an instruction must not reach the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """One line without control characters."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split("\n")))
