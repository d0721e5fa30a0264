"""The sampler a second time, as a textbook would write it: Python integers for Philox, float64 and loops for the rest.

It shares no line with the package. Where a sum comes so close to a threshold that float64 and integer weights may disagree, it says so
(`is_close`) instead of guessing.
"""

import math
from dataclasses import dataclass

MARGIN = 3e-6  # single-precision weights: 1e-7 of exp and up to 2e-6 of (x - max) / T at -40 powers of two


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 on Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 % 2**32, (p0 >> 32) ^ c[3] ^ k[1], p0 % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def uniform(seed: int, request: int, position: int) -> float:
    """The draw's number in [0, 1)."""
    split = [(value % 2**64 % 2**32, value % 2**64 >> 32) for value in (position, request, seed)]
    words = philox([*split[0], *split[1]], list(split[2]))
    return (words[0] * 2**32 + words[1]) / 2**64


@dataclass
class Plain:
    token: int
    logprob: float
    logprob_raw: float
    is_close: bool  # another token would be as right


def log_softmax(x: list[float]) -> list[float]:
    best = max(x)
    return [value - best - math.log(math.fsum(math.exp(other - best) for other in x)) for value in x]


def sample(x: list[float], allowed: list[bool], temperature: float, top_k: int, top_p: float, u: float) -> Plain | None:
    """One row; None when nothing is allowed."""
    raw = log_softmax(x) if max(x) > -math.inf else []
    order = sorted((t for t in range(len(x)) if allowed[t] and x[t] > -math.inf), key=lambda t: (-x[t], t))
    if not order:
        return None
    if temperature == 0:
        return Plain(order[0], 0.0, raw[order[0]], False)
    order = order[: top_k or len(order)]
    weight = {t: math.exp((x[t] - x[order[0]]) / temperature) for t in order}
    total = math.fsum(weight.values())
    kept, mass, is_close = [], 0.0, False
    for t in order:
        if mass >= top_p * total:
            break
        kept.append(t)
        mass += weight[t]
        is_close |= top_p < 1 and abs(mass - top_p * total) < MARGIN * total
    total = math.fsum(weight[t] for t in kept)
    running, token = 0.0, max(kept)
    for t in sorted(kept):
        running += weight[t]
        is_close |= t != max(kept) and abs(running - u * total) < MARGIN * total
        if running > u * total:
            token = t
            break
    return Plain(token, math.log(weight[token] / total) if weight[token] else -math.inf, raw[token], is_close)
