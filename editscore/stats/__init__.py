"""Numbers in, numbers out: pair accuracy with ties, group bootstrap, correlations, macro means. Plain numpy."""

from editscore.stats.bootstrap import Interval, bootstrap_ratio
from editscore.stats.correlation import average_ranks, pearson, spearman
from editscore.stats.pairs import PairCounts, Pairs, compare_pairs, count_pairs, group_pairs, macro_mean

__all__ = [
    "Interval",
    "PairCounts",
    "Pairs",
    "average_ranks",
    "bootstrap_ratio",
    "compare_pairs",
    "count_pairs",
    "group_pairs",
    "macro_mean",
    "pearson",
    "spearman",
]
