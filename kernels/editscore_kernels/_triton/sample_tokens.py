"""`sample_tokens` in Triton, one program per row; the formula stands in `editscore_kernels.sample_tokens`.

Nothing is sorted. Both filters keep the tokens above some logit and, of those that equal it, the ones with the lowest ids; so a filter
is one threshold and a number of ties, and the threshold is found by bisection over the keys that order logits. All sums are integers,
so the tokens are the reference's however the row is cut.

How often a row is read:

1. largest logit, NaN, and the largest logit of each of `columns` columns (token t belongs to column t % columns);
2. the sum of raw weights for the log-probabilities; the k-th largest column holds at least k tokens that reach it, so tokens from there
   on are listed on the way (about k of them), and the bisections and the draw work on the list.

With top-k up to `columns`, or top-p whose share lies within the about `SHARE_RANK` first tokens, that is all: two reads, the second
from L2 if the rows at work fit there. Without filters a third read walks to the drawn token, half of the row in the mean. Where the
list does not suffice (thousands of equal logits, top-p over nearly flat rows, a larger top-k) the bisection reads the row once per
bit: at most 16 times a filter for 16-bit logits, 32 for float32.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from editscore_kernels._triton import device_why_not
from editscore_kernels._triton.token_filter import (
    INFINITY,
    LOG2_E,
    draw_token,
    filter_threshold,
    find_maxima,
    rank_bound,
    sum_and_list,
    weigh_above,
)
from editscore_kernels._triton.token_weights import ABOVE_ALL, draw_words, order_key, scale_uniform

# Of the bits of a float32 these come from a 16-bit logit as zeros.
KEY_SHIFTS = {torch.float32: 0, torch.bfloat16: 16, torch.float16: 13}
LOG_OF_ONE = tl.constexpr(40 * 0.69314718055994530942)  # ln of a weight of 1
SHARE_RANK = tl.constexpr(128)  # columns whose tokens are listed for top-p without top-k


@dataclass(frozen=True)
class SamplerConfig:
    """`columns` tokens are read at a time; `list_size`, a multiple of it, are remembered at most."""

    columns: int
    list_size: int
    num_warps: int


# Never timed on a GPU. Eight logits a thread make 16-byte loads of 16-bit types; with two 64-bit sums each they take 112 to 151 registers,
# "narrow" 48 to 64 (sm_80, sm_90 and sm_100, triton 3.9), and nothing spills. 512 columns on 4 warps spill.
CONFIGS = {"narrow": SamplerConfig(256, 256, 4), "wide": SamplerConfig(2048, 4096, 8)}
NARROW_VOCABULARY = 4096


@triton.jit
def _choose(
    source,
    vocabulary,
    found,
    bound,
    best,
    scale,
    is_greedy,
    top_k,
    top_p,
    total,
    keys,
    KEY_SHIFT: tl.constexpr,
    HAS_MASK: tl.constexpr,
    COLUMNS: tl.constexpr,
    LIST_SIZE: tl.constexpr,
):
    """The token and the sum of the weights it was drawn among. `found` tokens reach `bound`; those that fit are listed."""
    _, _, _, listed = source
    token = tl.load(listed)  # the lowest id of the largest logit, if the row is greedy
    if not is_greedy:
        low = order_key(tl.full([], -INFINITY, tl.float32), KEY_SHIFT)
        ties = tl.full([], ABOVE_ALL, tl.int32)
        from_list = (found > 0) & (found <= LIST_SIZE)
        if from_list & (top_k == 0):
            _, listed_sum = weigh_above(source, from_list, found, bound, best, scale, HAS_MASK, COLUMNS)
            from_list = listed_sum >= tl.minimum(tl.ceil(top_p * total.to(tl.float64)).to(tl.int64), total)
        size = tl.where(from_list, found, vocabulary)
        if (top_k > 0) | (top_p < 1.0):
            low = tl.where(from_list, order_key(bound, KEY_SHIFT), low)
            low, ties, total = filter_threshold(
                source, from_list, size, low, best, scale, top_k, top_p, total, KEY_SHIFT, HAS_MASK, COLUMNS
            )
        seed, request, position = keys
        high_word, low_word = draw_words(seed, request, position)
        drawn = scale_uniform(high_word, low_word, total)
        token = draw_token(source, from_list, size, low, ties, drawn, best, scale, KEY_SHIFT, HAS_MASK, COLUMNS)
    return token, total


@triton.jit
def _store_logprobs(x, raw_log_sum, logprob, row, logits, option_ids_ptr, num_options, raw_ptr, logprob_ptr, option_ptr):
    """Log-probabilities, float64 until they are stored; NaN where a row failed."""
    tl.store(raw_ptr + row, (x.to(tl.float64) - raw_log_sum).to(tl.float32))
    tl.store(logprob_ptr + row, logprob.to(tl.float32))
    for start in range(0, num_options, 16):
        places = start + tl.arange(0, 16)
        is_inside = places < num_options
        ids = tl.load(option_ids_ptr + row * num_options + places, mask=is_inside, other=-1)
        option = tl.load(logits + ids, mask=ids >= 0, other=-INFINITY).to(tl.float64) - raw_log_sum
        tl.store(option_ptr + row * num_options + places, option.to(tl.float32), mask=is_inside)


@triton.jit(do_not_specialize=["num_words", "num_options"])
def _sample_tokens_fwd_kernel(
    logits_ptr, stride_logits, vocabulary, temperature_ptr, top_k_ptr, top_p_ptr, seed_ptr, request_ptr, position_ptr,
    mask_ptr, stride_mask, num_words, option_ids_ptr, num_options, list_ptr,
    token_ptr, raw_ptr, logprob_ptr, status_ptr, option_ptr,
    KEY_SHIFT: tl.constexpr, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr, LIST_SIZE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits = logits_ptr + row * stride_logits
    source = (logits, mask_ptr + row * stride_mask, num_words, list_ptr + row * LIST_SIZE)
    raw_best, is_number, column_max = find_maxima(source, vocabulary, HAS_MASK, COLUMNS)
    best = tl.max(column_max, 0)
    status = tl.where(is_number, tl.where(best == -INFINITY, 1, 0), 2)
    tl.store(status_ptr + row, status)
    nan = tl.full([], float("nan"), tl.float64)
    token, x, raw_log_sum, logprob = tl.full([], -1, tl.int32), tl.full([], 0.0, tl.float32), nan, nan
    if status == 0:
        temperature, top_p, top_k = tl.load(temperature_ptr + row), tl.load(top_p_ptr + row), tl.load(top_k_ptr + row)
        top_k = tl.where((top_k > 0) & (top_k < vocabulary), top_k, 0).to(tl.int32)
        is_greedy = temperature == 0.0
        temperature = tl.where(is_greedy, 1.0, temperature)
        scale = (tl.full([], LOG2_E, tl.float64) / temperature).to(tl.float32)
        rank = tl.where(top_p < 1.0, SHARE_RANK, 0)
        rank = tl.where(is_greedy, 1, tl.where(top_k > 0, tl.where(top_k <= COLUMNS, top_k, 0), rank))
        bound = rank_bound(column_max, best, rank, KEY_SHIFT)
        has_sum = tl.where(is_greedy, False, top_k == 0)
        raw_total, total, found = sum_and_list(source, vocabulary, raw_best, best, scale, bound, has_sum, HAS_MASK, COLUMNS, LIST_SIZE)
        tl.debug_barrier()  # the list was written by other threads of the program than those that read it
        keys = (tl.load(seed_ptr + row), tl.load(request_ptr + row), tl.load(position_ptr + row))
        token, total = _choose(
            source, vocabulary, found, bound, best, scale, is_greedy, top_k, top_p, total, keys, KEY_SHIFT, HAS_MASK, COLUMNS, LIST_SIZE
        )
        x = tl.load(logits + token).to(tl.float32)
        log_one = tl.full([], LOG_OF_ONE, tl.float64)
        raw_log_sum = raw_best.to(tl.float64) + (tl.log(raw_total.to(tl.float64)) - log_one)
        total = tl.maximum(total, 1)  # a greedy row has summed nothing
        logprob = (x.to(tl.float64) - best.to(tl.float64)) / temperature - (tl.log(total.to(tl.float64)) - log_one)
        logprob = tl.where(is_greedy, 0.0, logprob)
    tl.store(token_ptr + row, token.to(tl.int64))
    _store_logprobs(x, raw_log_sum, logprob, row, logits, option_ids_ptr, num_options, raw_ptr, logprob_ptr, option_ptr)


def why_not(logits: Tensor, *rest: object) -> str | None:
    """What this sampler cannot do."""
    if logits.dtype not in KEY_SHIFTS:
        return f"logits of {logits.dtype}: the reference only"
    return device_why_not("logits", logits.device)


def sample_tokens(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    seed: Tensor,
    request: Tensor,
    position: Tensor,
    mask: Tensor | None,
    option_ids: Tensor | None,
    config: SamplerConfig | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments and results as the op's schema; rows of logits and mask may have any stride."""
    rows, vocabulary = logits.shape
    num_options = 0 if option_ids is None else option_ids.shape[1]
    if logits.stride(1) != 1 and vocabulary > 1:
        logits = logits.contiguous()
    if config is None:
        config = CONFIGS["narrow" if vocabulary <= NARROW_VOCABULARY else "wide"]
    token, status = logits.new_empty(rows, dtype=torch.int64), logits.new_empty(rows, dtype=torch.int32)
    raw, logprob = (logits.new_empty(rows, dtype=torch.float32) for _ in range(2))
    option = logits.new_empty((rows, num_options), dtype=torch.float32)
    if rows:
        words = status if mask is None else mask
        _sample_tokens_fwd_kernel[(rows,)](
            logits, logits.stride(0), vocabulary, temperature, top_k, top_p, seed, request, position,
            words, 0 if mask is None else mask.stride(0), 0 if mask is None else mask.shape[1],
            token if option_ids is None else option_ids, num_options,
            logits.new_empty((rows, config.list_size), dtype=torch.int32),
            token, raw, logprob, status, option,
            KEY_SHIFT=KEY_SHIFTS[logits.dtype], HAS_MASK=mask is not None, COLUMNS=config.columns, LIST_SIZE=config.list_size,
            num_warps=config.num_warps, enable_fp_fusion=False,
        )  # fmt: skip
    return token, raw, logprob, status, option
