"""Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

Words are held in int64 tensors with values 0 .. 2^32 - 1. No product leaves 63 bits, so nothing here depends on how integers wrap.
"""

from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF


def multiply32(left: Tensor, right: Tensor | int) -> tuple[Tensor, Tensor]:
    """High and low word of the 64-bit product of two words."""
    low_half = left * (right & 0xFFFF)  # < 2^48
    high_half = left * (right >> 16) + (low_half >> 16)  # < 2^49
    return high_half >> 16, ((high_half & 0xFFFF) << 16) | (low_half & 0xFFFF)


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds. Four words of counter and two of key, all of one shape, in; four random words out."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = multiply32(c0, MULTIPLIERS[0])
        high1, low1 = multiply32(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEPS[0]) & WORD, (k1 + KEY_STEPS[1]) & WORD
    return c0, c1, c2, c3


def draw_words(seed: Tensor, request: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """The uniform 64-bit number of a draw as (high word, low word), each [R] int64.

    key = seed (low, high word), counter = (position low, position high, request low, request high); the number is output words 0
    (high) and 1 (low). Negative int64 values stand for their 64 bits.
    """
    counter = (position & WORD, (position >> 32) & WORD, request & WORD, (request >> 32) & WORD)
    high, low, _, _ = philox4x32(counter, (seed & WORD, (seed >> 32) & WORD))
    return high, low


def scale_uniform(words: tuple[Tensor, Tensor], total: Tensor) -> Tensor:
    """floor(u * total / 2^64) for u = the 64-bit number of `words` and 0 <= total < 2^62: an integer in [0, total)."""
    u_high, u_low = words
    t_high, t_low = total >> 32, total & WORD
    middle0_high, middle0_low = multiply32(t_low, u_high)
    middle1_high, middle1_low = multiply32(t_high, u_low)
    low_high, _ = multiply32(t_low, u_low)
    carry = (middle0_low + middle1_low + low_high) >> 32
    return t_high * u_high + middle0_high + middle1_high + carry
