"""`shared_prefix_attention` against the best that torch's own calls make of the same work, and against the machine.

    python -m benchmarks.ops.bench_shared_prefix_attention [--quick] [--rounds 5] [--threads 2] [--cases B=1 K=4] [--device cpu]

Cases: B prompts x K samples x G query heads per key head x prompt length, suffixes of 64 tokens, 4 key heads of 128, bf16 and fp32; on
the CPU fp32 once more on AVX2 in a process of its own whose torch is held to AVX2 as well. `--cases` keeps those that hold every word.

- `best_torch`: the fastest composition of benchmarks/peers/attention.py in this case; the row `best_torch` of the case names it;
- `roof`: the share of the time that the machine needs at least: the larger of operations / GEMM rate and unique bytes / read rate, both
  measured in the same rounds (for 16-bit pages this is min(GEMM rate, rows x read bandwidth));
- `no_sharing`: the op itself with a leaf for every sample, the samples of a prompt next to each other;
- `one_chunk` beside `canonical_chunks`: the C++ kernel below the op with the whole path as one chunk, and as it is;
- on a GPU also `two_calls` by name, `copy`: the unique bytes at the rate at which the GPU copies, and `flash_attn`: the faster composition
  of benchmarks/peers/flash.py, which the row `best_flash_attn` names, or why it was not run.

Every subject is compared with the reference before it is timed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from editscore_kernels import PreparedAttention, build_info, explain, instruction_sets, use_instruction_set
from editscore_kernels.shared_prefix_attention import CHUNK_TOKENS
from torch import Tensor

from benchmarks.harness import Bench, gemm_subject, roof_subjects, time_interleaved
from benchmarks.ops.shared_prefix_case import DTYPES, Inputs, Shape, make_inputs, shapes
from benchmarks.ops.shared_prefix_targets import print_targets
from benchmarks.peers.attention import COMPOSITIONS
from benchmarks.peers.flash import FLASH_COMPOSITIONS
from editscore.models.vlm import flash_attention_why_not

NAME = "shared_prefix_attention"
TOLERANCE = {"bf16": 2e-2, "fp32": 2e-5}  # of outputs of about 0.1: bf16 rounds inputs of a product in several peers
HOPELESS = 1.6  # a composition slower than the best by this factor in a first look is not timed further
LONGEST_PATH = 1 << 20  # tokens
READ_BYTES = 64 << 20  # beyond every cache but the last
HELD_TO_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def chosen_backend(device: str) -> str:
    """The first backend that runs here, asked in the order of `auto`; on the CPU the ones for GPUs are not asked."""
    fits = ("cpu", "reference") if device == "cpu" else ("cuda", "triton", "reference")
    return next(name for name, answer in explain(NAME) if answer == "yes" and name in fits)


def ours(inputs: Inputs, backend: str, *, is_shared: bool = True) -> Callable[[], Tensor]:
    """The op's output [R, Hq, D], prepared as the engine does for the layers of a step."""
    tables = inputs.shared if is_shared else inputs.unshared
    attention = PreparedAttention(tables, layout=inputs.store.layout, backend=backend)  # type: ignore[arg-type]
    return lambda: attention(inputs.q, inputs.store.k[0], inputs.store.v[0]).out


def compiled(inputs: Inputs, chunk_tokens: int) -> Callable[[], Tensor]:
    """The C++ kernel below the op, with chunks of so many tokens."""
    from editscore_kernels._native_attention import BoundAttention

    bound = BoundAttention(inputs.shared.tensors(inputs.q.device), inputs.dense.scale, 0, chunk_tokens=chunk_tokens)
    return lambda: bound(inputs.q, inputs.store.k[0], inputs.store.v[0])[0]


def subjects_of(inputs: Inputs, backend: str) -> dict[str, Callable[[], Tensor]]:
    """Everything that computes this attention: the op, the op held back in two ways, the compositions of torch."""
    found: dict[str, Callable[[], Tensor]] = {backend: ours(inputs, backend)}
    if len(inputs.shared.leaf_lengths) < len(inputs.q):
        found["no_sharing"] = ours(inputs, backend, is_shared=False)
    if backend == "cpu":
        found |= {"canonical_chunks": compiled(inputs, CHUNK_TOKENS), "one_chunk": compiled(inputs, LONGEST_PATH)}
    flash = {} if flash_attention_why_not(inputs.q.device, inputs.q.dtype) else FLASH_COMPOSITIONS
    return found | {name: (lambda run=run: run(inputs.dense)) for name, run in (COMPOSITIONS | flash).items()}  # type: ignore[misc]


def check(shape: Shape, inputs: Inputs, subjects: dict[str, Callable[[], Tensor]]) -> None:
    """Every subject equals the reference."""
    expected = ours(inputs, "reference")().float()
    for name, run in subjects.items():
        worst = float((run().float() - expected).abs().max())
        if not worst <= TOLERANCE[shape.dtype]:
            raise AssertionError(f"{shape.label}: {name} differs from the reference by {worst}")


def run_case(bench: Bench, shape: Shape, backend: str, device: str, rounds: int) -> None:
    """One case: check, look once, time together, record."""
    inputs = make_inputs(shape, device)
    sync = torch.cuda.synchronize if device == "cuda" else None
    subjects = subjects_of(inputs, backend)
    check(shape, inputs, subjects)
    peers = {name: subjects[name] for name in COMPOSITIONS}
    first = {name: timing.min_s for name, timing in time_interleaved(peers, rounds=2, min_round_s=0.002, sync=sync).items()}
    kept = [name for name in subjects if name not in peers or first[name] <= HOPELESS * min(first.values())]
    gemm, gemm_flops = gemm_subject(DTYPES[shape.dtype], 1024 if device == "cpu" else 8192, device)
    read_bytes = READ_BYTES if device == "cpu" else 1 << 30
    roofs = roof_subjects(read_bytes, device)
    machine: dict[str, Callable[[], object]] = {
        "gemm": gemm,
        "read": roofs["roof_read"],
        "read_case": roof_subjects(shape.unique_bytes, device)["roof_read"],
    }
    if device == "cuda":
        machine["copy_all"] = roofs["roof_copy"]
    timings = time_interleaved(machine | {name: subjects[name] for name in kept}, rounds=rounds, sync=sync)
    times = {name: timing.min_s for name, timing in timings.items()}
    if device == "cuda":  # reading the unique bytes at the rate of a copy
        times["copy"] = shape.unique_bytes / 2 * times["copy_all"] / read_bytes
        kept.append("copy")
        if reason := flash_attention_why_not(inputs.q.device, inputs.q.dtype):
            bench.absent(shape.label, "flash_attn", reason)
    gemm_s = shape.flops * times["gemm"] / gemm_flops
    read_s = min(shape.unique_bytes * times["read"] / read_bytes, times["read_case"])
    record(bench, shape, backend, {name: times[name] for name in kept}, gemm_s, read_s)


def record(bench: Bench, shape: Shape, backend: str, times: dict[str, float], gemm_s: float, read_s: float) -> None:
    """The rows of a case, in milliseconds; `gemm_s` and `read_s` are what its operations and its bytes cost at the measured rates."""
    milli = {name: seconds * 1e3 for name, seconds in times.items()}
    best = min((name for name in milli if name in COMPOSITIONS), key=milli.__getitem__)
    bench.add(shape.label, "best_torch", best, milli[best], "ms")
    peers = {"best_torch": milli[best], "roof": max(gemm_s, read_s) * 1e3}
    if flash := [name for name in milli if name in FLASH_COMPOSITIONS]:
        best = min(flash, key=milli.__getitem__)
        bench.add(shape.label, "best_flash_attn", best, milli[best], "ms")
        peers["flash_attn"] = milli[best]
    if shape.dtype == "fp32":
        peers["gemm"] = gemm_s * 1e3
    peers |= {name: milli[name] for name in ("no_sharing", "two_calls", "copy") if name in milli}
    for peer, value in peers.items():
        bench.compare(shape.label, backend, "time", milli[backend], "ms", peer=peer, peer_value=value)
    if "one_chunk" in milli:
        whole, ours_ms = milli["one_chunk"], milli["canonical_chunks"]
        bench.compare(shape.label, "canonical_chunks", "time", ours_ms, "ms", peer="one_chunk", peer_value=whole)


def run_held_to_avx2(bench: Bench, options: argparse.Namespace) -> None:
    """The AVX2 cases in a process whose torch has no more than AVX2 either; its rows join this run's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks.ops.bench_shared_prefix_attention", "--rows-to", str(path), "--dtypes", "fp32"]
        command += ["--instruction-sets", "avx2", "--rounds", str(options.rounds), "--threads", str(options.threads)]
        command += ["--quick"] * options.quick + (["--cases", *options.cases] if options.cases else [])
        subprocess.run(command, check=True, env=os.environ | HELD_TO_AVX2)
        bench.rows += [row | {"date": bench.date} for row in json.loads(path.read_text(encoding="utf-8"))]


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a corner of the grid")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="*", default=[], help="words that a case must hold: B=1 K=4 bf16 ...")
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--instruction-sets", nargs="*", choices=instruction_sets(), default=None)
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    parser.add_argument("--rows-to", type=Path, help=argparse.SUPPRESS)  # of the process held to AVX2
    return parser.parse_args()


def main() -> None:
    """Times the cases and appends to benchmarks/results/shared_prefix_attention.csv."""
    options = parsed()
    torch.set_num_threads(options.threads)
    backend = chosen_backend(options.device)
    best_set = instruction_sets()[-1]
    sets = [""] if backend != "cpu" else options.instruction_sets or [best_set, *(["avx2"] if "avx2" in instruction_sets()[:-1] else [])]
    if options.rows_to and torch.backends.cpu.get_cpu_capability() != "AVX2":
        raise RuntimeError(f"torch was to be held to AVX2 and runs on {torch.backends.cpu.get_cpu_capability()}")
    grid = "quick" if options.quick else options.device
    config = {name: value for name, value in vars(options).items() if name != "rows_to"}
    bench = Bench(NAME, config=config | {"backend": backend, "sets": sets} | build_info())
    for shape in shapes(options.dtypes, [name for name in sets if name != "avx2" or options.rows_to], grid):
        if all(word in shape.label.split() for word in options.cases):
            with use_instruction_set(shape.instruction_set or best_set):
                run_case(bench, shape, backend, options.device, options.rounds)
    if options.rows_to:
        options.rows_to.write_text(json.dumps(bench.rows), encoding="utf-8")
        return
    if "avx2" in sets and "fp32" in options.dtypes:
        run_held_to_avx2(bench, options)
    print_targets(bench.rows)
    if not options.no_save:
        print(bench.save())


if __name__ == "__main__":
    main()
