"""Scoring: judges over an engine, with a cache of results. Benchmarks, rewards and the command line get their scores here.

`load(name)` gives a scorer. Nothing here imports torch before a model is loaded.
"""

from editscore.data import cache_folder
from editscore.scoring.cache import CacheWarning, ResultCache, pass_key
from editscore.scoring.driver import Driver
from editscore.scoring.loading import load
from editscore.scoring.local import LocalScorer
from editscore.scoring.protocol import EngineLike, Scorer

__all__ = ["CacheWarning", "Driver", "EngineLike", "LocalScorer", "ResultCache", "Scorer", "cache_folder", "load", "pass_key"]
