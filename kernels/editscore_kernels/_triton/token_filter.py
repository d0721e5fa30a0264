"""How the sampler reads a row: maxima, sums, the list of the first tokens, thresholds by bisection, and the walk to the drawn token.

`source` is (logits of the row, words of its mask, their number, its list): the row itself or its list is read in tiles of `COLUMNS`.
`best` is the largest allowed logit and `scale` = float32(log2(e) / T); see `token_weights`.
"""

import triton
import triton.language as tl

from editscore_kernels._triton.token_weights import ABOVE_ALL, logit_of_key, middle_key, order_key, token_weight

LOG2_E = tl.constexpr(1.4426950408889634)
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def tile(source, from_list, start, count, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr):
    """Ids and allowed logits of the next tokens of a row, or of its list; -inf beyond its end and where the grammar says no."""
    logits, words, num_words, listed = source
    places = start + tl.arange(0, COLUMNS)
    is_inside = places < count
    ids = places
    if from_list:
        ids = tl.load(listed + places, mask=is_inside, other=0)
    x = tl.load(logits + ids, mask=is_inside, other=-INFINITY).to(tl.float32)
    if HAS_MASK:
        word = tl.load(words + (ids >> 5), mask=is_inside & ((ids >> 5) < num_words), other=0)
        x = tl.where((word >> (ids & 31)) & 1 == 1, x, -INFINITY)
    return ids, x


@triton.jit
def find_maxima(source, vocabulary, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr):
    """First read: the largest logit (NaN if there is one) and the largest allowed logit of each column."""
    logits, words, num_words, _ = source
    raw_max = tl.full([COLUMNS], -INFINITY, tl.float32)
    column_max = tl.full([COLUMNS], -INFINITY, tl.float32)
    for start in range(0, vocabulary, COLUMNS):
        ids = start + tl.arange(0, COLUMNS)
        x = tl.load(logits + ids, mask=ids < vocabulary, other=-INFINITY).to(tl.float32)
        raw_max = tl.maximum(raw_max, x, propagate_nan=tl.PropagateNan.ALL)
        if HAS_MASK:
            word = tl.load(words + (ids >> 5), mask=(ids >> 5) < num_words, other=0)
            column_max = tl.maximum(column_max, tl.where((word >> (ids & 31)) & 1 == 1, x, -INFINITY))
    if not HAS_MASK:
        column_max = raw_max
    is_number = tl.min(tl.where(raw_max < INFINITY, 1, 0), 0) == 1
    return tl.max(raw_max, 0), is_number, column_max


@triton.jit
def rank_bound(column_max, best, rank, KEY_SHIFT: tl.constexpr):
    """The largest logit that `rank` columns reach; +inf for rank 0."""
    keys = order_key(column_max, KEY_SHIFT)
    low = order_key(tl.full([], -INFINITY, tl.float32), KEY_SHIFT)
    high = order_key(best, KEY_SHIFT) + 1
    while low + 1 < high:
        middle = middle_key(low, high)
        is_reached = tl.sum((keys >= middle).to(tl.int32), 0) >= rank
        low, high = tl.where(is_reached, middle, low), tl.where(is_reached, high, middle)
    return tl.where(rank > 0, logit_of_key(low, KEY_SHIFT), INFINITY)


@triton.jit
def sum_and_list(
    source, vocabulary, raw_best, best, scale, bound, has_sum, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr, LIST_SIZE: tl.constexpr
):
    """Second read: sum of raw weights; sum of the weights that are drawn from, if asked for; tokens with x >= bound, listed by id."""
    logits, words, num_words, listed = source
    raw_sums, sums, found = tl.zeros([COLUMNS], tl.int64), tl.zeros([COLUMNS], tl.int64), 0
    for start in range(0, vocabulary, COLUMNS):
        ids = start + tl.arange(0, COLUMNS)
        x = tl.load(logits + ids, mask=ids < vocabulary, other=-INFINITY).to(tl.float32)
        raw_sums += token_weight(x, raw_best, LOG2_E)
        if HAS_MASK:
            word = tl.load(words + (ids >> 5), mask=(ids >> 5) < num_words, other=0)
            x = tl.where((word >> (ids & 31)) & 1 == 1, x, -INFINITY)
        if has_sum:
            sums += token_weight(x, best, scale)
        is_hit = ((x >= bound) & (ids < vocabulary)).to(tl.int32)
        if tl.max(is_hit, 0) == 1:
            places = found + tl.cumsum(is_hit, 0) - 1
            tl.store(listed + places, ids, mask=(is_hit == 1) & (places < LIST_SIZE))
            found += tl.sum(is_hit, 0)
    return tl.sum(raw_sums, 0), tl.sum(sums, 0), found


@triton.jit
def weigh_above(source, from_list, size, bound, best, scale, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr):
    """How many tokens reach a logit above -inf, and the sum of their weights."""
    counts, sums = tl.zeros([COLUMNS], tl.int32), tl.zeros([COLUMNS], tl.int64)
    for start in range(0, size, COLUMNS):
        _ids, x = tile(source, from_list, start, size, HAS_MASK, COLUMNS)
        counts += (x >= bound).to(tl.int32)
        sums += tl.where(x >= bound, token_weight(x, best, scale), 0)
    return tl.sum(counts, 0), tl.sum(sums, 0)


@triton.jit
def filter_threshold(
    source, from_list, size, low, best, scale, top_k, top_p, total, KEY_SHIFT: tl.constexpr, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr
):
    """(key, ties, total): kept are the tokens above the key and the first `ties` that equal it, and `total` is the sum of their weights.

    `low` is the key of a logit that all kept tokens reach. For top_k = 0 `total` comes in as the sum over all tokens.
    """
    top = order_key(best, KEY_SHIFT) + 1
    ties = tl.full([], ABOVE_ALL, tl.int32)
    nothing = tl.full([], 0, tl.int64)
    if top_k > 0:
        # Invariant: at least k tokens reach `low`, fewer than k reach `high`. If exactly k do, the threshold stands.
        high, low_count, low_sum, above_count, above_sum = top, top_k + 1, nothing, 0, nothing
        while (low + 1 < high) & (low_count != top_k):
            middle = middle_key(low, high)
            count, weight_sum = weigh_above(source, from_list, size, logit_of_key(middle, KEY_SHIFT), best, scale, HAS_MASK, COLUMNS)
            if count >= top_k:
                low, low_count, low_sum = middle, count, weight_sum
            else:
                high, above_count, above_sum = middle, count, weight_sum
        if low_count == top_k:
            total = low_sum
        else:
            ties = top_k - above_count
            total = above_sum + ties * token_weight(logit_of_key(low, KEY_SHIFT), best, scale)
    share = tl.ceil(top_p * total.to(tl.float64)).to(tl.int64)
    needed = tl.minimum(tl.maximum(share, 1), total)
    if needed < total:
        # Invariant: the tokens that reach `low` weigh at least `needed`, those that reach `high` less.
        high, above_sum = top, nothing
        while low + 1 < high:
            middle = middle_key(low, high)
            _, weight_sum = weigh_above(source, from_list, size, logit_of_key(middle, KEY_SHIFT), best, scale, HAS_MASK, COLUMNS)
            if weight_sum >= needed:
                low = middle
            else:
                high, above_sum = middle, weight_sum
        weight = token_weight(logit_of_key(low, KEY_SHIFT), best, scale)
        many = (needed - above_sum + weight - 1) // weight
        ties = many.to(tl.int32)
        total = above_sum + many * weight
    return low, ties, total


@triton.jit
def draw_token(
    source, from_list, size, low, ties, drawn, best, scale, KEY_SHIFT: tl.constexpr, HAS_MASK: tl.constexpr, COLUMNS: tl.constexpr
):
    """The first id at which the running sum of kept weights exceeds `drawn`."""
    bound = logit_of_key(low, KEY_SHIFT)
    token, start = tl.full([], -1, tl.int32), tl.full([], 0, tl.int32)
    running = tl.full([], 0, tl.int64)
    while (token < 0) & (start < size):
        ids, x = tile(source, from_list, start, size, HAS_MASK, COLUMNS)
        is_kept = x >= bound
        if ties < ABOVE_ALL:
            is_tie = (x == bound).to(tl.int32)
            is_kept = (x > bound) | ((is_tie == 1) & (tl.cumsum(is_tie, 0) <= ties))
            ties -= tl.minimum(tl.sum(is_tie, 0), ties)
        weight = tl.where(is_kept, token_weight(x, best, scale), 0)
        tile_sum = tl.sum(weight, 0)
        if running + tile_sum > drawn:
            token = tl.min(tl.where((weight > 0) & (running + tl.cumsum(weight, 0) > drawn), ids, ABOVE_ALL), 0)
        running += tile_sum
        start += COLUMNS
    return token
