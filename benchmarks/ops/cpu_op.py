"""What the benchmarks of small ops on the processor share: their command line, the rounds over threads, cases and dtypes, the rows."""

import argparse
from collections.abc import Callable, Iterable, Mapping

import torch
from editscore_kernels import build_info, explain

from benchmarks.harness import Bench, roof_subjects, time_interleaved

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

# bench, case, dtype, backend, rounds
RunCase = Callable[[Bench, str, str, str, int], None]


def compare(bench: Bench, label: str, backend: str, subjects: Mapping[str, Callable[[], object]], num_bytes: int, rounds: int) -> None:
    """Rows of `backend` against `torch`, both of them subjects, and against one copy of `num_bytes`."""
    label = f"{label} {torch.get_num_threads()} threads"
    timings = time_interleaved({**subjects, "roof": roof_subjects(num_bytes, "cpu")["roof_copy"]}, rounds=rounds, warmup=2)
    best = {name: timing.min_s * 1e6 for name, timing in timings.items()}
    for peer in ("torch", "roof"):
        bench.compare(label, backend, "time", best[backend], "us", peer=peer, peer_value=best[peer])


def main(op: str, about: str | None, cases: Iterable[str], run_case: RunCase) -> None:
    """Times the cases and appends to the file of the op in benchmarks/results."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    options = parser.parse_args()
    backend = next(name for name, answer in explain(op) if answer == "yes" and name in ("cpu", "reference"))
    bench = Bench(op, config=vars(options) | {"backend": backend} | build_info())
    for threads in options.threads:
        torch.set_num_threads(threads)
        for case in cases:
            for dtype in DTYPES:
                run_case(bench, case, dtype, backend, options.rounds)
    if not options.no_save:
        print(bench.save())
