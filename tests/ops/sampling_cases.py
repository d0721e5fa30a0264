"""What the tests of `sample_tokens` share: backends by name, logits, masks, and what "the same" means."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from editscore_kernels import SampledTokens, instruction_sets, sample_tokens, use_instruction_set

NATIVE = [f"cpu-{name}" for name in instruction_sets()]
BACKENDS = ["reference", *NATIVE]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FIELDS = ("token", "logprob_raw", "logprob", "status", "option_logprob")


@contextlib.contextmanager
def backend_of(name: str) -> Iterator[str]:
    """The backend's name, its instruction set selected."""
    backend, _, instruction_set = name.partition("-")
    with use_instruction_set(instruction_set) if instruction_set else contextlib.nullcontext():
        yield backend


def run(name: str, logits: torch.Tensor, **changes: Any) -> SampledTokens:
    arguments: dict[str, Any] = {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "seed": 42, "request": 7, "position": 0}
    with backend_of(name) as backend:
        return sample_tokens(logits, **(arguments | changes), backend=backend)


def random_logits(rows: int, vocabulary: int, seed: int = 0, scale: float = 4.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


def random_mask(rows: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    words = (vocabulary + 31) // 32
    return torch.randint(-(2**31), 2**31, (rows, words), generator=torch.Generator().manual_seed(seed), dtype=torch.int64).int()


def assert_same(left: SampledTokens, right: SampledTokens) -> None:
    """Integers equal; log-probabilities within one unit in the last place (they differ by the logarithm of two libraries at most)."""
    assert torch.equal(left.token, right.token)
    assert torch.equal(left.status, right.status)
    for field in ("logprob_raw", "logprob", "option_logprob"):
        torch.testing.assert_close(getattr(left, field), getattr(right, field), rtol=2.4e-7, atol=1e-7, equal_nan=True)
