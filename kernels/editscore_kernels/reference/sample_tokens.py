"""`sample_tokens` in plain torch: the definition that every backend must meet token for token.

Legend: R rows, V vocabulary, W words of mask, N options, C candidates. See `editscore_kernels.sample_tokens` for the formula.

The trick is that weights are integers: w = floor(2^40 * exp((x - max) / T)) from a fixed sequence of single-precision operations
(each rounded once, no fused multiply-add). Sums of integers do not depend on their order, so the top-p cut and the draw come out the
same on any number of threads, with any vector width and on any device.
"""

import math

import torch
from torch import Tensor

from editscore_kernels.reference.philox import draw_words, scale_uniform

WEIGHT_BITS = 40  # a weight of 1 is 2^40; V < 2^22 keeps every sum below 2^62
MAX_VOCABULARY = (1 << 22) - 1
OK, ALL_MASKED, NOT_A_NUMBER = 0, 1, 2
LOG2_E = 1.4426950408889634
LOWEST_POWER = -60.0  # 2^40 * 2^-60 is 0 as an integer, and the shift stays below 64
ROUNDER = 12582912.0  # 1.5 * 2^23: adding and subtracting it rounds to the nearest integer, ties to even
# 2^f = 1 + f (A1 + f (A2 + ...)) on [-1/2, 1/2]: minimax in relative error (2e-9), each coefficient rounded to single precision.
# Evaluated without fused multiply-add the error is 1.0e-7.
POWER_OF_TWO = (
    0.69314718246459961,
    0.24022647738456726,
    0.055503323674201965,
    0.0096184369176626205,
    0.0013398873852565885,
    0.00015353361959569156,
)
CHUNK_ELEMENTS = 1 << 23  # rows are worked on in chunks of this many logits, so that 192 rows of 152,064 need no gigabytes

Sampled = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


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
) -> Sampled:
    """Arguments as the op's schema: logits [R, V]; temperature, top_p [R] float64; the other parameters [R] int64; mask [R, W] int32;
    option_ids [R, N] int64. Returns token, logprob_raw, logprob, status [R] and option_logprob [R, N].

    With float64 logits the weights are floor(2^40 * exp2(t)) in float64 and the log-probabilities are float64: the gold for tests.
    """
    rows = max(1, CHUNK_ELEMENTS // max(1, logits.shape[1]))
    arguments = (logits, temperature, top_k, top_p, seed, request, position, mask, option_ids)
    parts = [
        _sample_rows(*(None if argument is None else argument[start : start + rows] for argument in arguments))  # type: ignore[arg-type]
        for start in range(0, max(1, logits.shape[0]), rows)
    ]
    token, logprob_raw, logprob, status, options = (torch.cat(column) for column in zip(*parts, strict=True))
    return token, logprob_raw, logprob, status, options


def _sample_rows(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    seed: Tensor,
    request: Tensor,
    position: Tensor,
    mask: Tensor | None,
    option_ids: Tensor | None,
) -> Sampled:
    x = logits if logits.dtype == torch.float64 else logits.float()
    is_number = ~(x.isnan() | (x == torch.inf)).any(1)
    x = torch.where(is_number[:, None], x, 0.0)
    allowed = x if mask is None else torch.where(unpack_mask(mask, x.shape[1]), x, -torch.inf)
    best, best_id = _first_maximum(allowed)
    status = torch.where(is_number, torch.where(best == -torch.inf, ALL_MASKED, OK), NOT_A_NUMBER).to(torch.int32)
    best = torch.where(status == OK, best, 0.0)

    is_greedy = temperature == 0
    divisor = torch.where(is_greedy, 1.0, temperature)
    ids, kept = _filter(allowed, weights(allowed, best, divisor), top_k, top_p)
    total = kept.sum(1)
    threshold = scale_uniform(draw_words(seed, request, position), total)
    place = (kept.cumsum(1) <= threshold[:, None]).sum(1).clamp(max=kept.shape[1] - 1)
    token = torch.where(is_greedy, best_id, ids.gather(1, place[:, None])[:, 0])

    chosen = allowed.gather(1, token[:, None])[:, 0]
    logprob = (chosen.double() - best.double()) / divisor - _log_weight(total)
    logprob = torch.where(is_greedy, 0.0, logprob)
    raw_best = torch.where(status == OK, x.amax(1), 0.0)
    raw_log_sum = raw_best.double() + _log_weight(weights(x, raw_best, torch.ones_like(divisor)).sum(1))
    options = x.new_empty(x.shape[0], 0) if option_ids is None else x.gather(1, option_ids.clamp(min=0)).double() - raw_log_sum[:, None]
    if option_ids is not None:
        options = torch.where(option_ids < 0, -torch.inf, options)
    bad = status != OK
    return (
        torch.where(bad, -1, token),
        torch.where(bad, torch.nan, chosen.double() - raw_log_sum).to(x.dtype),
        torch.where(bad, torch.nan, logprob).to(x.dtype),
        status,
        torch.where(bad[:, None], torch.nan, options).to(x.dtype),
    )


def unpack_mask(mask: Tensor, vocabulary: int) -> Tensor:
    """[R, W] int32 words to [R, V] bool: bit t % 32 of word t // 32. Tokens beyond the last word are not allowed."""
    bits = (mask[:, :, None] >> torch.arange(32, dtype=torch.int32, device=mask.device)) & 1
    flat = bits.flatten(1)[:, :vocabulary].bool()
    return torch.nn.functional.pad(flat, (0, vocabulary - flat.shape[1]))


def _first_maximum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum of each row and the lowest id that has it."""
    best = x.amax(1)
    ids = torch.arange(x.shape[1], device=x.device)
    return best, torch.where(x == best[:, None], ids, x.shape[1] - 1).amin(1)


def weights(x: Tensor, best: Tensor, temperature: Tensor) -> Tensor:
    """floor(2^40 * exp((x - best) / T)) as int64 [R, V]; 0 for -inf and for anything below 2^-40."""
    scale = (LOG2_E / temperature).to(x.dtype)  # computed in float64, rounded once
    power = ((x - best[:, None]) * scale[:, None]).clamp(min=LOWEST_POWER)
    if x.dtype == torch.float64:
        return torch.floor(torch.exp2(power + WEIGHT_BITS)).long()
    whole = (power + ROUNDER) - ROUNDER
    part = power - whole
    value = torch.full_like(part, POWER_OF_TWO[-1])
    for coefficient in reversed(POWER_OF_TWO[:-1]):
        value = value * part + coefficient  # two operations, two roundings: never addcmul, which may fuse
    value = value * part + 1.0
    mantissa = (value * float(1 << 30)).long()  # exact: 24 significant bits in [0.7, 1.42)
    return (mantissa << (WEIGHT_BITS - 30)) >> (-whole).long()


def _filter(x: Tensor, weight: Tensor, top_k: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """Candidate ids [R, C] in ascending order and their weights, 0 where a filter dropped them."""
    vocabulary = x.shape[1]
    limit = torch.where((top_k <= 0) | (top_k > vocabulary), vocabulary, top_k)
    if x.shape[0] == 0 or bool(((limit == vocabulary) & (top_p >= 1)).all()):
        return torch.arange(vocabulary, device=x.device).expand(x.shape), weight
    order = _descending(x, int(limit.max()))
    ranked = torch.where(torch.arange(order.shape[1], device=x.device) < limit[:, None], weight.gather(1, order), 0)
    total = ranked.sum(1)
    share = torch.ceil(top_p * total.double()).long().clamp(min=1)
    needed = torch.where(top_p >= 1, total, torch.minimum(share, total))  # a total above 2^53 is no float64
    before = ranked.cumsum(1) - ranked
    ranked = torch.where(before < needed[:, None], ranked, 0)
    ids, places = order.sort(1)
    return ids, ranked.gather(1, places)


def _descending(x: Tensor, count: int) -> Tensor:
    """Ids of the `count` largest of each row, descending, equal values by ascending id."""
    if x.dtype == torch.float64:
        return x.sort(dim=1, descending=True, stable=True).indices[:, :count]
    bits = (x + 0.0).view(torch.int32).long()  # + 0.0 turns -0 into 0; the bits of floats then order like integers with a sign
    rising = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    falling_id = x.shape[1] - 1 - torch.arange(x.shape[1], device=x.device)
    return torch.topk((rising << 32) | falling_id, count, dim=1, sorted=True).indices


def _log_weight(total: Tensor) -> Tensor:
    """Natural logarithm of a sum of weights, in float64."""
    return torch.log(total.double()) - WEIGHT_BITS * math.log(2.0)
