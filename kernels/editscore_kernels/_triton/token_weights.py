"""What one token and one draw are to the sampler, as device functions: the integer weight, the order of logits, Philox.

The formulas stand in `editscore_kernels.sample_tokens`. Kernels that use them are launched with `enable_fp_fusion=False`: a fused
multiply-add rounds once where the definition rounds twice, and a weight would differ in its last bits.
"""

import triton
import triton.language as tl

WORD = tl.constexpr(0xFFFFFFFF)
ROUNDER = tl.constexpr(12582912.0)  # 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
LOWEST_POWER = tl.constexpr(-60.0)
# The bits of 2^40. ROUNDER's lowest nine bits are 0, so the same bits of (rounded power + ROUNDER), moved to the exponent, add the power.
SHIFT_BITS = tl.constexpr((127 + 40) << 23)
MINUS_ZERO = tl.constexpr(-(1 << 31))
ABOVE_ALL = tl.constexpr((1 << 31) - 1)  # more than any key, id or count


@triton.jit
def token_weight(x, best, scale):
    """floor(2^40 * exp((x - best) / T)) as int64 for x <= best, scale = float32(log2(e) / T); 0 for -inf."""
    power = tl.maximum((x - best) * scale, LOWEST_POWER)
    rounded = power + ROUNDER
    part = power - (rounded - ROUNDER)
    value = part * 0.00015353361959569156 + 0.0013398873852565885
    value = value * part + 0.0096184369176626205
    value = value * part + 0.055503323674201965
    value = value * part + 0.24022647738456726
    value = value * part + 0.69314718246459961
    value = value * part + 1.0
    # The definition takes value * 2^30 as an integer, which is exact, and shifts it; a product with a power of two is exact too, and
    # one conversion to 64 bits replaces the conversion to 32 and two shifts of 64.
    shift = ((rounded.to(tl.int32, bitcast=True) << 23) + SHIFT_BITS).to(tl.float32, bitcast=True)
    return (value * shift).to(tl.int64)


@triton.jit
def order_key(x, KEY_SHIFT: tl.constexpr):
    """An int32 that orders as x does, -0 as 0. KEY_SHIFT drops the bits that are 0 in every float32 that came from a 16-bit type."""
    bits = x.to(tl.int32, bitcast=True)
    bits = tl.where(bits == MINUS_ZERO, 0, bits)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits) >> KEY_SHIFT


@triton.jit
def logit_of_key(key, KEY_SHIFT: tl.constexpr):
    """The logit whose `order_key` this is."""
    bits = key << KEY_SHIFT
    return tl.where(bits < 0, (bits ^ 0x7FFFFFFF) & -(1 << KEY_SHIFT), bits).to(tl.float32, bitcast=True)


@triton.jit
def middle_key(low, high):
    """floor((low + high) / 2); their sum may need 33 bits."""
    return (low >> 1) + (high >> 1) + (low & high & 1)


@triton.jit
def draw_words(seed, request, position):
    """The draw's uniform 64-bit number as (high, low) 32-bit words in uint64: Philox4x32-10, key = seed, counter = (position, request)."""
    c0, c1 = position.to(tl.uint64) & WORD, position.to(tl.uint64) >> 32
    c2, c3 = request.to(tl.uint64) & WORD, request.to(tl.uint64) >> 32
    k0, k1 = seed.to(tl.uint64) & WORD, seed.to(tl.uint64) >> 32
    for _ in tl.static_range(10):
        product0, product1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (product1 >> 32) ^ c1 ^ k0, product1 & WORD, (product0 >> 32) ^ c3 ^ k1, product0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1


@triton.jit
def scale_uniform(high, low, total):
    """floor((2^32 high + low) * total / 2^64) as int64, for 0 <= total < 2^62."""
    t_high, t_low = total.to(tl.uint64) >> 32, total.to(tl.uint64) & WORD
    middle0, middle1 = high * t_low, low * t_high
    carry = ((middle0 & WORD) + (middle1 & WORD) + ((low * t_low) >> 32)) >> 32
    return (high * t_high + (middle0 >> 32) + (middle1 >> 32) + carry).to(tl.int64)
