"""Seeded sampling of one token per row, the same token on every backend, in any batch and in any order.

For a row x of V logits (read as float32, exact for bf16 and fp16):

1. mask: a token whose bit is off has x = -inf (bit t % 32 of word t // 32, as llguidance writes them; tokens beyond the last word
   are off, so a mask made for a tokenizer smaller than the output layer is right as it is);
2. weight: w = floor(2^40 * exp((x - m) / T)), m the largest allowed logit, exp from a fixed sequence of single-precision operations;
   T = 0 is greedy: the lowest id among the largest;
3. top-k: the k first by (x descending, id ascending); 0 or more than V: off;
4. top-p: the shortest prefix of that order whose weights reach ceil(top_p * their sum); 1: off;
5. draw: Philox4x32-10 with key = seed and counter = (position, request) gives u in 0 .. 2^64 - 1; with S the sum of the kept weights
   the token is the first one, in ascending id, at which the running sum exceeds floor(u * S / 2^64).

Every sum is a sum of integers, so no order of summation, thread, vector width or device changes a token: backends agree without a
margin. A token of probability below 2^-40 of the largest is never drawn.

Log-probabilities are natural logarithms. `logprob_raw`: log-softmax of the row as it came in (no mask, no temperature, no filter) at
the token. `logprob`: its log-probability under what was drawn from (after mask, temperature, top-k, top-p and renormalisation);
0 for greedy. `option_logprob`: log-softmax of the row as it came in at the ids of `option_ids`, -inf where the id is -1.

No gradient: the draw is a choice of integers, and trainers recompute log-probabilities from the model with a gradient.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editscore_kernels import _native, _native_cuda, _triton
from editscore_kernels._dispatch import BackendChoice, Candidate, OpTable, check_backend, choose
from editscore_kernels.reference.sample_tokens import ALL_MASKED, MAX_VOCABULARY, NOT_A_NUMBER, OK
from editscore_kernels.reference.sample_tokens import sample_tokens as _reference

__all__ = ["ALL_MASKED", "NOT_A_NUMBER", "OK", "TABLE", "SampledTokens", "sample_tokens"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
MIN_TEMPERATURE, MAX_TEMPERATURE = 2.0**-16, 2.0**16


class SampledTokens(NamedTuple):
    """One entry per row. A row whose `status` is not `OK` has token -1 and NaN log-probabilities."""

    token: Tensor  # [R] int64
    logprob_raw: Tensor  # [R] float32 (float64 for float64 logits)
    logprob: Tensor  # [R]
    status: Tensor  # [R] int32: OK 0, ALL_MASKED 1 (no finite allowed logit), NOT_A_NUMBER 2 (NaN or +inf anywhere in the row)
    option_logprob: Tensor  # [R, N], N = 0 without option_ids


def sample_tokens(
    logits: Tensor,
    *,
    temperature: float | Tensor,
    top_k: int | Tensor,
    top_p: float | Tensor,
    seed: int | Tensor,
    request: int | Sequence[int] | Tensor,
    position: int | Sequence[int] | Tensor,
    mask: Tensor | None = None,
    option_ids: Tensor | Sequence[int] | None = None,
    backend: BackendChoice = "auto",
) -> SampledTokens:
    """Draws one token per row of `logits` [R, V]; formula, order of filters and outputs in the module's docstring.

    Every other argument is one value for all rows or one per row ([R], on the logits' device):
    temperature 0 or 2^-16 .. 2^16; top_k >= 0 (0 = off); 0 < top_p <= 1 (1 = off); seed, request, position: 64-bit integers, negative ones
    standing for their bits. `request` is the hash of a request's content and pass, never an index; `position` counts its tokens.
    mask [R, W] int32; option_ids [N] or [R, N] integers, -1 pads.

    Raises ValueError naming the argument (values of tensors that are not on the CPU are not read back to be checked), BackendError
    when the named backend cannot run.
    """
    _check_logits(logits)
    check_backend(backend)
    rows = logits.shape[0]
    result = torch.ops.editscore.sample_tokens.default(
        logits.detach(),
        _per_row("temperature", temperature, rows, torch.float64, logits.device),
        _per_row("top_k", top_k, rows, torch.int64, logits.device),
        _per_row("top_p", top_p, rows, torch.float64, logits.device),
        _per_row("seed", seed, rows, torch.int64, logits.device),
        _per_row("request", request, rows, torch.int64, logits.device),
        _per_row("position", position, rows, torch.int64, logits.device),
        _mask(mask, rows, logits.device),
        _option_ids(option_ids, rows, logits.device),
        backend,
    )
    return SampledTokens(*result)


def _check_logits(logits: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ValueError(f"logits: expected a tensor [R, V], got {_shape(logits)}")
    if logits.dtype not in DTYPES:
        raise ValueError(f"logits: dtype {logits.dtype} is not one of {', '.join(map(str, DTYPES))}")
    if not 1 <= logits.shape[1] <= MAX_VOCABULARY:
        raise ValueError(f"logits: a vocabulary of {logits.shape[1]} is not in 1 .. {MAX_VOCABULARY}")


def _shape(value: object) -> str:
    return f"a tensor {list(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _per_row(name: str, value: float | Sequence[int] | Tensor, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[R] of `dtype` from one value or one per row; 64-bit hashes up to 2^64 - 1 become the int64 of the same bits."""
    if isinstance(value, Tensor):
        tensor = value
        if tensor.device != device:
            raise ValueError(f"{name}: on {tensor.device}, logits on {device}")
        if tensor.dtype == torch.bool or tensor.is_complex() or (dtype == torch.int64 and tensor.is_floating_point()):
            raise ValueError(f"{name}: dtype {tensor.dtype}, expected {'integers' if dtype == torch.int64 else 'numbers'}")
        # torch.uint64 keeps its bits through view; other integers keep their value.
        tensor = tensor.view(torch.int64) if tensor.dtype == torch.uint64 else tensor.to(dtype)
    elif dtype == torch.int64:
        tensor = torch.tensor(_as_int64(name, value), dtype=dtype, device=device)
    else:
        tensor = torch.tensor(value, dtype=dtype, device=device)
    if tensor.ndim == 0:
        return tensor.expand(rows).contiguous()
    if tensor.ndim != 1 or tensor.shape[0] != rows:
        raise ValueError(f"{name}: expected one value or [{rows}], got {list(tensor.shape)}")
    return tensor.contiguous()


def _as_int64(name: str, value: object) -> int | list[int]:
    if isinstance(value, int):
        if isinstance(value, bool) or not -(1 << 63) <= value < 1 << 64:
            raise ValueError(f"{name}: {value!r} is not a 64-bit integer")
        return value - (1 << 64) if value >= 1 << 63 else value
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(isinstance(item, int) for item in value):
        return [_as_int64(name, item) for item in value]  # type: ignore[misc]
    raise ValueError(f"{name}: expected an integer, a sequence of them or a tensor, got {_shape(value)}")


def _mask(mask: Tensor | None, rows: int, device: torch.device) -> Tensor | None:
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dtype != torch.int32 or mask.ndim != 2:
        raise ValueError(f"mask: expected int32 words [{rows}, ceil(V / 32)], got {_shape(mask)}")
    if mask.shape[0] != rows or mask.shape[1] < 1:
        raise ValueError(f"mask: expected [{rows}, ceil(V / 32)], got {list(mask.shape)}")
    if mask.device != device:
        raise ValueError(f"mask: on {mask.device}, logits on {device}")
    return mask if mask.stride(1) == 1 else mask.contiguous()


def _option_ids(option_ids: Tensor | Sequence[int] | None, rows: int, device: torch.device) -> Tensor | None:
    if option_ids is None:
        return None
    ids = (
        option_ids
        if isinstance(option_ids, Tensor)
        else torch.tensor(_as_int64("option_ids", option_ids), dtype=torch.int64, device=device)
    )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"option_ids: dtype {ids.dtype}, expected integers")
    if ids.device != device:
        raise ValueError(f"option_ids: on {ids.device}, logits on {device}")
    if ids.ndim == 1:
        ids = ids.expand(rows, ids.shape[0])
    if ids.ndim != 2 or ids.shape[0] != rows:
        raise ValueError(f"option_ids: expected [N] or [{rows}, N], got {list(ids.shape)}")
    return ids.to(torch.int64).contiguous()


Arguments = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
Results = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _check_values(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, option_ids: Tensor | None) -> None:
    """Values inside tensors; they are read only on the CPU, where that costs no synchronisation."""
    if logits.device.type != "cpu":
        return
    warm = temperature[temperature != 0]
    if not bool(((warm >= MIN_TEMPERATURE) & (warm <= MAX_TEMPERATURE)).all()):
        raise ValueError(f"temperature: neither 0 nor in {MIN_TEMPERATURE} .. {MAX_TEMPERATURE}: {temperature.tolist()[:8]}")
    if bool((top_k < 0).any()):
        raise ValueError(f"top_k: negative: {top_k.tolist()[:8]}")
    if not bool(((top_p > 0) & (top_p <= 1)).all()):
        raise ValueError(f"top_p: not in (0, 1]: {top_p.tolist()[:8]}")
    if option_ids is not None and bool(((option_ids < -1) | (option_ids >= logits.shape[1])).any()):
        raise ValueError(f"option_ids: outside -1 .. {logits.shape[1] - 1}")


def _run(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    seed: Tensor,
    request: Tensor,
    position: Tensor,
    mask: Tensor | None,
    option_ids: Tensor | None,
    backend: str,
) -> Results:
    _check_values(logits, temperature, top_k, top_p, option_ids)
    arguments = (logits, temperature, top_k, top_p, seed, request, position, mask, option_ids)
    result: Results = choose(TABLE, backend, *arguments).run(*arguments)
    return result


def _fake(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    seed: Tensor,
    request: Tensor,
    position: Tensor,
    mask: Tensor | None,
    option_ids: Tensor | None,
    backend: str,
) -> Results:
    rows, num_options = logits.shape[0], 0 if option_ids is None else option_ids.shape[1]
    real = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return (
        logits.new_empty(rows, dtype=torch.int64),
        logits.new_empty(rows, dtype=real),
        logits.new_empty(rows, dtype=real),
        logits.new_empty(rows, dtype=torch.int32),
        logits.new_empty(rows, num_options, dtype=real),
    )


TABLE = OpTable(
    "sample_tokens",
    (
        Candidate("cuda", _native_cuda.unavailable, _native_cuda.sample_tokens_why_not, _native_cuda.sample_tokens),
        _triton.candidate("sample_tokens"),
        Candidate("cpu", _native.unavailable, _native.sample_tokens_why_not, _native.sample_tokens),
        Candidate("reference", lambda: None, lambda *arguments: None, _reference),
    ),
)

_LIBRARY: Any = torch.library.Library("editscore", "FRAGMENT")  # type: ignore[no-untyped-call]  # kept: the op goes when it is collected
_LIBRARY.define(
    "sample_tokens(Tensor logits, Tensor temperature, Tensor top_k, Tensor top_p, Tensor seed, Tensor request, Tensor position, "
    "Tensor? mask, Tensor? option_ids, str backend) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("sample_tokens", _run, "CompositeExplicitAutograd")
torch.library.register_fake("editscore::sample_tokens", _fake, lib=_LIBRARY)
