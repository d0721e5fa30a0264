"""`gated_activation` against torch's function and product, and against copying.

    python -m benchmarks.ops.bench_gated_activation [--rounds 5] [--threads 1 2] [--device cpu] [--no-save]

Cases: rows x width of a feed-forward layer (192 samples decoding, a prefill of 2,048 tokens, a vision tower's 3,420) and one row of 16,
which shows what a call costs; both inputs are halves of one merged matrix. We are called as layers call us, through `PreparedActivation`.
`torch`: silu(x) * up; its result and ours are new tensors, whose pages the system may have to clear, which then is most of the time.
`<backend>_inplace` against `torch_inplace`: over x, as silu(x, inplace=True).mul_(up); here x is 20 and up 1, so that x stays what it is
however often it is written. `roof`: one copy of half as many bytes again as x has (a copy reads one number for each it writes, we two).
"""

import argparse
from collections.abc import Callable

import torch
from editscore_kernels import PreparedActivation, build_info, explain, gated_activation
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import Bench, roof_subjects, time_interleaved

CASES = {"decode 192x4864": (192, 4864), "prefill 2048x4864": (2048, 4864), "vision 2048x3420": (2048, 3420), "call 1x16": (1, 16)}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Against float64, in units of the product: two roundings of 16-bit types, and for float32 the last bits of act.
TOLERANCE = {"bf16": 2.0**-7, "fp32": 1e-6}


def check(out: Tensor, x: Tensor, up: Tensor, case: str, dtype: str) -> None:
    """Equal to the reference in float64 within rounding; in bfloat16 equal to torch, bit for bit."""
    gold = gated_activation(x.double(), up.double(), kind="silu", backend="reference")
    if not bool(((out.double() - gold).abs() <= TOLERANCE[dtype] * gold.abs() + 1e-30).all()):
        raise AssertionError(f"{case} {dtype}: not the reference's numbers")
    if dtype == "bf16" and x.device.type == "cpu" and not torch.equal(out, functional.silu(x) * up):
        raise AssertionError(f"{case} {dtype}: not torch's bits")


def subjects_of(x: Tensor, up: Tensor, backend: str) -> dict[str, Callable[[], object]]:
    """What is timed."""
    run = PreparedActivation("silu", backend=backend)  # type: ignore[arg-type]
    scratch, ones = torch.full_like(x, 20.0, memory_format=torch.contiguous_format), torch.ones_like(up)
    return {
        backend: lambda: run(x, up),
        f"{backend}_inplace": lambda: run(scratch, ones, in_place=True),
        "torch": lambda: functional.silu(x) * up,
        "torch_inplace": lambda: functional.silu(scratch, inplace=True).mul_(ones),
        "roof": roof_subjects(x.numel() * x.element_size() * 3 // 2, x.device.type)["roof_copy"],
    }


def run_case(bench: Bench, case: str, dtype: str, backend: str, device: str, rounds: int) -> None:
    """One case: equal to the reference, then timed."""
    rows, width = CASES[case]
    generator = torch.Generator(device=device).manual_seed(0)
    merged = torch.randn(rows, 2 * width, generator=generator, device=device).to(DTYPES[dtype])
    x, up = merged.chunk(2, dim=1)
    check(gated_activation(x, up, kind="silu", backend=backend), x, up, case, dtype)  # type: ignore[arg-type]
    timings = time_interleaved(
        subjects_of(x, up, backend), rounds=rounds, warmup=2, sync=torch.cuda.synchronize if device == "cuda" else None
    )
    best = {name: timing.min_s * 1e6 for name, timing in timings.items()}
    threads = torch.get_num_threads() if device == "cpu" else 0
    label = f"{case} {dtype}" + (f" {threads} threads" if threads else "")
    for subject, peer in ((backend, "torch"), (f"{backend}_inplace", "torch_inplace"), (backend, "roof"), (f"{backend}_inplace", "roof")):
        bench.compare(label, subject, "time", best[subject], "us", peer=peer, peer_value=best[peer])


def main() -> None:
    """Times the cases and appends to benchmarks/results/gated_activation.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    options = parser.parse_args()
    fits = ("cpu", "reference") if options.device == "cpu" else ("cuda", "triton", "reference")
    backend = next(name for name, answer in explain("gated_activation") if answer == "yes" and name in fits)
    bench = Bench("gated_activation", config=vars(options) | {"backend": backend} | build_info())
    for threads in options.threads if options.device == "cpu" else [1]:
        torch.set_num_threads(threads)
        for case in CASES:
            for dtype in DTYPES:
                run_case(bench, case, dtype, backend, options.device, options.rounds)
    if not options.no_save:
        print(bench.save())


if __name__ == "__main__":
    main()
