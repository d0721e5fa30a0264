"""`append_kv` against torch's indexed assignment of the same tokens, and against copying their bytes.

    python -m benchmarks.ops.bench_append_kv [--rounds 5] [--threads 2] [--device cpu] [--no-save]

Cases: tokens x key heads of 128, one token per sequence (decode) or whole pages (prefill), in the layout that the device's store has.
`index_put` writes the same bytes into plain pages; it has nothing to pack. `roof`: one copy of as many bytes.
"""

import argparse

import torch
from editscore_kernels import append_kv, build_info, explain
from editscore_kernels.kv import PAGE_TOKENS, KVStore
from torch import Tensor

from benchmarks.harness import Bench, roof_subjects, time_interleaved

NUM_KV_HEADS, HEAD_DIM, NUM_PAGES = 4, 128, 4096
CASES = {"decode 16": (16, PAGE_TOKENS), "decode 256": (256, PAGE_TOKENS), "decode 1152": (1152, PAGE_TOKENS), "prefill 2048": (2048, 1)}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def index_put(pages: Tensor, slots: Tensor, x: Tensor) -> None:
    """Tokens [N, Hkv, D] to their places in plain pages."""
    pages[slots // PAGE_TOKENS, :, slots % PAGE_TOKENS] = x


def run_case(bench: Bench, case: str, dtype: str, backend: str, device: str, rounds: int) -> None:
    """One case: equal to the reference, then timed."""
    tokens, step = CASES[case]
    generator = torch.Generator(device=device).manual_seed(0)
    k, v = (torch.randn(tokens, NUM_KV_HEADS, HEAD_DIM, generator=generator, device=device).to(DTYPES[dtype]) for _ in "kv")
    slots = PAGE_TOKENS + step * torch.arange(tokens, device=device)  # from page 1: page 0 belongs to nobody
    ours, expected = (KVStore(1, NUM_KV_HEADS, HEAD_DIM, NUM_PAGES, DTYPES[dtype], torch.device(device)) for _ in range(2))
    plain = [torch.zeros_like(ours.k[0]) for _ in "kv"]
    append_kv(k, v, expected.k[0], expected.v[0], slots, layout=expected.layout, backend="reference")

    def run() -> None:
        append_kv(k, v, ours.k[0], ours.v[0], slots, layout=ours.layout, backend=backend)  # type: ignore[arg-type]

    def run_peer() -> None:
        index_put(plain[0], slots, k)
        index_put(plain[1], slots, v)

    run()
    if not (torch.equal(ours.k, expected.k) and torch.equal(ours.v, expected.v)):
        raise AssertionError(f"{case} {dtype}: {backend} wrote other pages than the reference")
    num_bytes = 2 * k.numel() * k.element_size()
    subjects = {backend: run, "index_put": run_peer, "roof": roof_subjects(num_bytes, device)["roof_copy"]}
    timings = time_interleaved(subjects, rounds=rounds, sync=torch.cuda.synchronize if device == "cuda" else None)
    times = {name: timing.min_s * 1e6 for name, timing in timings.items()}
    for peer in ("index_put", "roof"):
        bench.compare(f"{case} {dtype} {ours.layout}", backend, "time", times[backend], "us", peer=peer, peer_value=times[peer])


def main() -> None:
    """Times the cases and appends to benchmarks/results/append_kv.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fits = ("cpu", "reference") if options.device == "cpu" else ("cuda", "triton", "reference")
    backend = next(name for name, answer in explain("append_kv") if answer == "yes" and name in fits)
    bench = Bench("append_kv", config=vars(options) | {"backend": backend} | build_info())
    for case in CASES:
        for dtype in DTYPES:
            run_case(bench, case, dtype, backend, options.device, options.rounds)
    if not options.no_save:
        print(bench.save())


if __name__ == "__main__":
    main()
