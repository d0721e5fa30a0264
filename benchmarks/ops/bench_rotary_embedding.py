"""`rotary_embedding` against the products and concatenations of transformers' function.

    python -m benchmarks.ops.bench_rotary_embedding [--rounds 5] [--threads 1 2] [--no-save]

Cases: tokens, heads of queries and keys, head size (192 samples decoding and a prefill of 2,048 tokens of the 0.5B language model, a 3B
model's), and one token, which shows what a call costs. `torch`: the reference, which has transformers' operations. `roof`: one copy of as
many bytes as q and k have.
"""

import torch
from editscore_kernels import rotary_embedding
from editscore_kernels.reference.rotary_embedding import rotary_embedding as composed

from benchmarks.harness import Bench
from benchmarks.ops.cpu_op import DTYPES, compare, main

CASES = {
    "decode 192 14/2x64": (192, 14, 2, 64),
    "prefill 2048 14/2x64": (2048, 14, 2, 64),
    "decode 192 16/2x128": (192, 16, 2, 128),
    "call 1 1/1x16": (1, 1, 1, 16),
}


def run_case(bench: Bench, case: str, dtype: str, backend: str, rounds: int) -> None:
    """One case: bit for bit the reference, then timed."""
    tokens, heads, kv_heads, width = CASES[case]
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(tokens, count, width, generator=generator).to(DTYPES[dtype]) for count in (heads, kv_heads))
    angles = 7 * torch.randn(tokens, width, generator=generator)
    cos, sin = angles.cos().to(q.dtype), angles.sin().to(q.dtype)
    label = f"{case} {dtype}"
    results = rotary_embedding(q, k, cos, sin, backend=backend), composed(q, k, cos, sin)  # type: ignore[arg-type]
    if not all(map(torch.equal, *results)):
        raise AssertionError(f"{label}: not the reference's bits")
    subjects = {
        backend: lambda: rotary_embedding(q, k, cos, sin, backend=backend),  # type: ignore[arg-type]
        "torch": lambda: composed(q, k, cos, sin),
    }
    compare(bench, label, backend, subjects, (q.numel() + k.numel()) * q.element_size(), rounds)


if __name__ == "__main__":
    main("rotary_embedding", __doc__, CASES, run_case)
