"""What `shared_prefix_attention` is to reach on a CPU, and the smallest value of a run beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A ratio against a peer over the cases that `covers` names; `must` and `aim` as ratios (a share of 70% is 0.70)."""

    title: str
    peer: str
    covers: Callable[[dict[str, str]], bool]
    must: float
    aim: float


def case_fields(case: str) -> dict[str, str]:
    """`bf16 avx512 B=4 K=8 G=7 P=512 S=64` by name; dtype and instruction set too."""
    words = case.split()
    found = dict(word.split("=") for word in words if "=" in word)
    plain = [word for word in words if "=" not in word]
    return found | {"dtype": plain[0], "instruction_set": plain[1] if len(plain) > 1 else ""}


def _is_many(case: dict[str, str]) -> bool:
    return int(case["B"]) * int(case["K"]) >= 16


def _is_bf16(case: dict[str, str]) -> bool:
    return case["dtype"] == "bf16"


def _is_fp32(case: dict[str, str], on_avx2: bool) -> bool:
    return case["dtype"] == "fp32" and (case["instruction_set"] == "avx2") == on_avx2


TARGETS = (
    Target("bf16, B K >= 16, best torch", "best_torch", lambda case: _is_bf16(case) and _is_many(case), 2.8, 3.4),
    Target("bf16, B K >= 16, share of the roof", "roof", lambda case: _is_bf16(case) and _is_many(case), 0.70, 0.85),
    Target("fp32, best torch", "best_torch", lambda case: _is_fp32(case, False), 1.3, 2.0),
    Target("fp32 AVX2, best torch held to AVX2", "best_torch", lambda case: _is_fp32(case, True), 1.0, 1.3),
    Target("fp32 AVX2, share of its GEMM", "gemm", lambda case: _is_fp32(case, True), 0.60, 0.75),
    Target("bf16, B=1 K=4, best torch", "best_torch", lambda case: _is_bf16(case) and case["B"] == "1" and case["K"] == "4", 2.0, 2.6),
    Target("all, against one chunk", "one_chunk", lambda case: True, 0.97, 0.99),
)


def smallest(target: Target, rows: Iterable[Mapping[str, str]]) -> tuple[float, str, int] | None:
    """The smallest ratio of a target in a run's rows, its case, and the number of cases; None without a case."""
    found = [(float(row["ratio"]), row["case"]) for row in rows if row["peer"] == target.peer and target.covers(case_fields(row["case"]))]
    return (*min(found), len(found)) if found else None


def print_targets(rows: Iterable[Mapping[str, str]]) -> None:
    """A line per target: the smallest ratio beside must and aim, and where it was."""
    rows = list(rows)
    print(f"\n{'target':<40} {'smallest':>8} {'must':>5} {'aim':>5}  case")
    for target in TARGETS:
        found = smallest(target, rows)
        value, case = (f"{found[0]:.3f}", f"{found[1]} (of {found[2]})") if found else ("-", "no case was run")
        print(f"{target.title:<40} {value:>8} {target.must:>5} {target.aim:>5}  {case}")
