"""The only importer of the compiled module `_C`: checks what pointers cannot say, then calls it."""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("editscore_kernels._C"), None
    except ImportError as error:
        return None, str(error)


_C, _LOAD_ERROR = _load()
REBUILD = "build it with `pip install -e .`"
LOGIT_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # editscore::LogitType
ELEMENT_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # editscore::ElementType
REAL = torch.float32

_instruction_set: ContextVar[str | None] = ContextVar("editscore_instruction_set", default=None)


def unavailable() -> str | None:
    """Why the compiled module cannot be used, or None."""
    if _C is None:
        return f"the compiled module is missing ({_LOAD_ERROR}); {REBUILD}"
    if not hasattr(_C, "rotary_embedding_cpu"):  # the newest function
        return f"the compiled module is older than this source; {REBUILD}"
    return None


def module() -> ModuleType:
    """The compiled module, or a RuntimeError that says why there is none."""
    reason = unavailable()
    if _C is None or reason:
        raise RuntimeError(reason)
    return _C


def build_info() -> dict[str, str]:
    """Compiler, CUDA architectures and instruction sets of the compiled module; {"unavailable": reason} without it."""
    if _C is None or unavailable():
        return {"unavailable": unavailable() or ""}
    sets = ", ".join(name if runs else f"{name} (not on this processor)" for name, runs in _C.instruction_sets())
    return {"compiler": _C.compiler, "cuda": _C.cuda_architectures or "not built", "instruction_sets": sets}


@functools.cache
def _named_sets() -> tuple[tuple[str, bool], ...]:
    return tuple(module().instruction_sets())


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that this build has and this processor runs, the plainest first."""
    return tuple(name for name, runs in _named_sets() if runs)


def instruction_set() -> str:
    """The set that C++ kernels run on here and now."""
    return _instruction_set.get() or instruction_sets()[-1]


@contextlib.contextmanager
def use_instruction_set(name: str) -> Iterator[None]:
    """Inside the block C++ kernels run on this set ("portable", "avx2", "avx512", "avx512_bf16") instead of the best one.

    A sampled token and an activation are the same bits on each; attention is so on one set, and within rounding between two.
    """
    if name not in instruction_sets():
        raise ValueError(f"instruction set: {name!r} is not one of {', '.join(instruction_sets())}")
    token = _instruction_set.set(name)
    try:
        yield
    finally:
        _instruction_set.reset(token)


@functools.cache
def _number_of(name: str | None) -> int:
    return [each for each, _ in _named_sets()].index(name or instruction_sets()[-1])


def set_number() -> int:
    """The number that C++ knows the set by."""
    return _number_of(_instruction_set.get())


def sample_tokens_why_not(logits: Tensor, *rest: Any) -> str | None:
    """What the C++ sampler cannot do."""
    if logits.device.type != "cpu":
        return f"logits are on {logits.device}"
    if logits.dtype not in LOGIT_TYPES:
        return f"logits of {logits.dtype}: the reference only"
    return None


def checked_address(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """The address of a contiguous CPU tensor of exactly this dtype and shape."""
    if tensor.dtype is not dtype or tensor.shape != shape or not tensor.is_cpu or not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous CPU tensor {list(shape)} of {dtype}, got {list(tensor.shape)} of {tensor.dtype}")
    return tensor.data_ptr()


def _check_logits_and_mask(logits: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both with a last dimension of stride 1, copied only where it is not; rows may have any stride."""
    reason = unavailable() or sample_tokens_why_not(logits)
    if reason:
        raise ValueError(f"logits: {reason}")
    if logits.stride(1) != 1 and logits.shape[1] > 1:
        logits = logits.contiguous()
    if mask is None:
        return logits, None
    if mask.device.type != "cpu" or mask.dtype != torch.int32 or mask.ndim != 2 or len(mask) != len(logits):
        raise ValueError(f"mask: expected a CPU tensor [{len(logits)}, W] of int32, got {list(mask.shape)} of {mask.dtype}")
    return logits, mask.contiguous() if mask.stride(1) != 1 and mask.shape[1] > 1 else mask


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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`sample_tokens` in C++; arguments and results as the op's schema."""
    logits, mask = _check_logits_and_mask(logits, mask)
    rows, vocabulary = logits.shape
    num_options = 0 if option_ids is None else option_ids.shape[1]
    token, status = torch.empty(rows, dtype=torch.int64), torch.empty(rows, dtype=torch.int32)
    logprob_raw, logprob, option_logprob = (torch.empty(shape, dtype=REAL) for shape in ((rows,), (rows,), (rows, num_options)))
    module().sample_tokens_cpu(
        logits.data_ptr(),
        LOGIT_TYPES[logits.dtype],
        rows,
        vocabulary,
        logits.stride(0),
        checked_address("temperature", temperature, torch.float64, (rows,)),
        checked_address("top_k", top_k, torch.int64, (rows,)),
        checked_address("top_p", top_p, torch.float64, (rows,)),
        *(
            checked_address(name, keys, torch.int64, (rows,))
            for name, keys in (("seed", seed), ("request", request), ("position", position))
        ),
        *((0, 0, 0) if mask is None else (mask.data_ptr(), mask.shape[1], mask.stride(0))),
        0 if option_ids is None else checked_address("option_ids", option_ids, torch.int64, (rows, num_options)),
        num_options,
        *(result.data_ptr() for result in (token, logprob_raw, logprob, status, option_logprob)),
        torch.get_num_threads(),
        set_number(),
    )
    return token, logprob_raw, logprob, status, option_logprob


def sample_weights(x: Tensor, best: float, scale: float) -> int:
    """The sum of the sampler's integer weights over x [V] float32: what the C++ adds up, so that tests can compare every bit."""
    return int(module().sample_weights_cpu(checked_address("x", x, torch.float32, tuple(x.shape)), x.numel(), best, scale, set_number()))
