"""The engine: requests in, completions out. It knows tokens, images, caches and kernels, and has never heard of editing."""

from editscore.engine.config import EngineConfig
from editscore.engine.engine import Engine
from editscore.engine.stats import EngineStats

__all__ = ["Engine", "EngineConfig", "EngineStats"]
