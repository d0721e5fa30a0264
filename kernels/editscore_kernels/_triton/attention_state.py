"""The running state of a softmax over keys, as device functions: (m, l, O) of some rows over the tiles that they have seen.

m [BLOCK_ROWS] is the maximum of the scores in powers of two, l the sum of 2^(s - m), O [BLOCK_ROWS, HEAD_DIM] the values so weighted.
Kernels that use them are launched with `enable_fp_fusion=False`, so that a merge rounds alike wherever it is compiled.
"""

import triton
import triton.language as tl

LOG_2 = tl.constexpr(0.6931471805599453)
# Stands in for a maximum of -inf: a row that saw nothing gets 2^-inf = 0 everywhere instead of NaN.
LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def attend_tile(q, k, v, is_seen, scale_log2, m, total, o, UPCAST_DOT: tl.constexpr):
    """The state after a tile of keys and values [TILE, HEAD_DIM]. Rows that see none of it keep every bit of theirs.

    UPCAST_DOT takes the products of bfloat16 in float32: the interpreter's own are wrong, and products of 8-bit mantissas are exact.
    """
    if UPCAST_DOT:
        scores = tl.dot(q.to(tl.float32), tl.trans(k.to(tl.float32)), input_precision="ieee") * scale_log2
    else:
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale_log2
    scores = tl.where(is_seen, scores, float("-inf"))
    top = tl.maximum(m, tl.max(scores, 1))
    finite = tl.maximum(top, LOWEST)
    weight = tl.exp2(scores - finite[:, None])
    keep = tl.exp2(m - finite)
    total = total * keep + tl.sum(weight, 1)
    rounded = weight.to(v.dtype)
    if UPCAST_DOT:
        o = o * keep[:, None] + tl.dot(rounded.to(tl.float32), v.to(tl.float32), input_precision="ieee")
    else:
        o = tl.dot(rounded, v, o * keep[:, None], input_precision="ieee")
    return top, total, o


@triton.jit
def merge_states(m_a, total_a, o_a, m_b, total_b, o_b):
    """The state over the keys of both; an empty one changes no bit of the other."""
    top = tl.maximum(m_a, m_b)
    finite = tl.maximum(top, LOWEST)
    weight_a, weight_b = tl.exp2(m_a - finite), tl.exp2(m_b - finite)
    return top, total_a * weight_a + total_b * weight_b, o_a * weight_a[:, None] + o_b * weight_b[:, None]


@triton.jit
def normalized(total, o):
    """O / l, 0 for a row that saw nothing."""
    return o / tl.where(total > 0, total, 1.0)[:, None]


@triton.jit
def log_sum(m, total):
    """The natural logarithm of the sum of exp(scores), -inf for a row that saw nothing."""
    return tl.where(total > 0, m + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf")) * LOG_2


@triton.jit
def store_partial(partial_ptr, slot, m, total, o, is_mine, HEAD_DIM: tl.constexpr):
    """Writes the state of one chunk: HEAD_DIM + 2 numbers at `slot` [BLOCK_ROWS]: O, m, l."""
    base = partial_ptr + slot * (HEAD_DIM + 2)
    tl.store(base[:, None] + tl.arange(0, HEAD_DIM), o, mask=is_mine[:, None])
    tl.store(base + HEAD_DIM, m, mask=is_mine)
    tl.store(base + (HEAD_DIM + 1), total, mask=is_mine)


@triton.jit
def load_partial(partial_ptr, slot, is_real, HEAD_DIM: tl.constexpr):
    """(m, l, O) as `store_partial` wrote them."""
    base = partial_ptr + slot * (HEAD_DIM + 2)
    o = tl.load(base[:, None] + tl.arange(0, HEAD_DIM), mask=is_real[:, None], other=0.0)
    m = tl.load(base + HEAD_DIM, mask=is_real, other=float("-inf"))
    return m, tl.load(base + (HEAD_DIM + 1), mask=is_real, other=0.0), o


@triton.jit
def empty_state(BLOCK_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr):
    """What a chunk begins with: maximum -inf, sum 0, output 0."""
    m, total = tl.full([BLOCK_ROWS], float("-inf"), tl.float32), tl.zeros([BLOCK_ROWS], tl.float32)
    return m, total, tl.zeros([BLOCK_ROWS, HEAD_DIM], tl.float32)


@triton.jit
def choose_state(is_first, m_a, total_a, o_a, m_b, total_b, o_b):
    """The first state in the rows where `is_first`, the second in the others."""
    return tl.where(is_first, m_a, m_b), tl.where(is_first, total_a, total_b), tl.where(is_first[:, None], o_a, o_b)
