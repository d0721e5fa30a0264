"""EditScore: scores instruction-guided image edits.

    import editscore
    with editscore.load("nano") as scorer:
        (score,) = scorer.score([editscore.EditSample("a.png", "b.png", "make the car red")], passes=4)

For users; rooms import from each other's rooms. torch is imported when a model is loaded, not before.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import version as _version

    from editscore.scoring import Scorer, load
    from editscore.types import EditSample, Image, InvalidInputError, PassScore, Score, Spread, Status

    __version__ = _version("editscore")

__all__ = [
    "EditSample",
    "Image",
    "InvalidInputError",
    "PassScore",
    "Score",
    "Scorer",
    "Spread",
    "Status",
    "__version__",
    "load",
]

_ROOMS = {"load": "editscore.scoring", "Scorer": "editscore.scoring"}


def __getattr__(name: str) -> Any:
    """Public names on first use."""
    import importlib

    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("editscore")
        except PackageNotFoundError:
            value = "0+unknown"
    elif name in __all__:
        value = getattr(importlib.import_module(_ROOMS.get(name, "editscore.types")), name)
    else:
        raise AttributeError(f"module 'editscore' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
