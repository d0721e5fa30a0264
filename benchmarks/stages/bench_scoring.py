"""How fast is scoring, beside the libraries that one would use otherwise? On the same machine, weights, prompts, dtype and tokens.

    python -m benchmarks.stages.bench_scoring nano  [--edits 200] [--model nano] [--threads 1 --threads 2] ...
    python -m benchmarks.stages.bench_scoring job_s [--peers openvino,vllm,llamacpp,... | none] [--rounds 3] [--no-extras]
    python -m benchmarks.stages.bench_scoring job_m ...

`nano` (also without a word) is the embedded judge against transformers (benchmarks.stages.nano_scoring). `job_s` and `job_m` are random
Qwen2.5-VL checkpoints in bf16 (benchmarks.stages.job_folder): 4 sources x 6 edits at 224 px around the language model of Qwen2.5-0.5B, and
1 x 2 at 448 px on the shape of Qwen2.5-VL-3B; SC and PQ, K = 4, exactly 64 sampled tokens a pass, no grammar. Peers run as processes in
environments of their own (benchmarks.stages.job_peers); `roof` is the time of the matrix products at the rate measured in the same
run. Loading and one warm-up prompt are not timed, everything from pictures to tokens is. Rounds are interleaved with the peers that are
fast enough. `time` is the median, `best_time` the least, `cpu_time` the processor time of the same runs: on a machine that others use
too, threads wait for each other and `time` says more about the neighbours. `--extras`: fast mode (as a peer; what exact mode costs is
`exact_over_fast`), K = 1, and the judge's grammar. A peer that draws one pass (llamacpp) turns them on and stands beside our K = 1, in
`time_of_one_pass` and its like.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from benchmarks.harness import Bench
from benchmarks.stages.job_folder import JOBS, NUM_TOKENS, Job, prepare
from benchmarks.stages.job_ours import GRAMMAR, Ours, Run
from benchmarks.stages.job_peers import PEERS, PeerRun, run_peer
from benchmarks.stages.job_roof import flops, gemm_rates
from benchmarks.stages.job_targets import print_targets
from benchmarks.stages.nano_scoring import run_nano

app = App(help=__doc__)
app.default(run_nano)
app.command(run_nano, name="nano")


@app.command(name="job_s")
def job_s(*, peers: str = "all", rounds: int = 3, threads: int = 2, extras: bool = True, save: bool = True) -> None:
    """4 groups x 6 candidates at 224 px, 504 M parameters, beside the peers named."""
    run_job(JOBS["job_s"], peers, rounds, threads, extras, save)


@app.command(name="job_m")
def job_m(*, peers: str = "hf_batched", rounds: int = 3, threads: int = 2, extras: bool = False, save: bool = True) -> None:
    """1 group x 2 candidates at 448 px, 3.75 B parameters, beside the peers named."""
    run_job(JOBS["job_m"], peers, rounds, threads, extras, save)


def run_job(job: Job, peers: str, rounds: int, threads: int, extras: bool, save: bool) -> None:
    """Rounds of ours and of the peers, then the rows."""
    names = list(PEERS) if peers == "all" else [] if peers == "none" else peers.split(",")
    if unknown := set(names) - set(PEERS):
        raise SystemExit(f"no peer is named {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    extras |= any(PEERS[name].passes for name in names)
    folder = prepare(job)
    ours: dict[str, list[Run]] = defaultdict(list)
    others: dict[str, list[PeerRun]] = defaultdict(list)
    loads: list[float] = []
    limits: list[tuple[float, float]] = []
    greedy: dict[str, str] = {}
    for turn in range(rounds):
        limits.append(run_ours(job, folder, threads, extras, ours, greedy))
        for name in names:
            if turn < PEERS[name].max_rounds:
                loads.append(os.getloadavg()[0])
                others[name].append(run_peer(name, folder, threads, greedy))
                print(f"{name}: {others[name][-1].seconds:.1f} s, processor {others[name][-1].cpu_seconds:.1f} s", flush=True)
    settings = {name: runs[0].settings | {"num_prompts": runs[0].num_prompts} for name, runs in others.items()}
    versions = {name: runs[0].versions for name, runs in others.items()}
    config = {"job": job.name, "recipe": job.recipe, "rounds": rounds, "threads": threads, "loads": loads}
    bench = Bench("scoring", config=config | {"peers": settings, "peer_versions": versions})
    report(
        bench,
        f"{job.name} bf16 K={job.passes} {threads} threads",
        ours,
        others,
        (min(clock for clock, _ in limits), min(cpu for _, cpu in limits)),
    )
    print_targets(bench.rows)
    if save:
        print(bench.save())


def run_ours(job: Job, folder: Path, threads: int, extras: bool, runs: dict[str, list[Run]], greedy: dict[str, str]) -> tuple[float, float]:
    """A round of ours, its runs added to `runs`; returns the arithmetic limit at the rate of this moment, by clock and processor."""
    engine = Ours(folder, threads)
    if not greedy:
        greedy.update(engine.greedy())
    needed = flops(engine.model, job.shape, engine.requests, NUM_TOKENS)
    clock, cpu = gemm_rates(job.shape)
    limits = sum(needed.values()) / clock, sum(needed.values()) / cpu
    runs["time"].append(engine.run())
    engine.check(runs["time"][-1].completions)
    if runs["time"][0].completions != runs["time"][-1].completions:
        raise SystemExit("two rounds gave different answers")
    if extras:
        runs["fast"].append(engine.run(mode="fast"))
        engine.check(runs["fast"][-1].completions)
        runs["one_pass"].append(engine.run(passes=1))
        runs["grammar"].append(engine.run(answer=GRAMMAR))
    shown = {name: f"{run.seconds:.1f} s" for name, (*_, run) in runs.items()}
    phases = {name: round(seconds, 1) for name, seconds in runs["time"][-1].phases.items()}
    print(
        f"editscore: {shown}, phases {phases}, TFLOP { ({k: round(v / 1e12, 2) for k, v in needed.items()}) }, limit {limits[0]:.1f} s",
        flush=True,
    )
    del engine
    gc.collect()
    return limits


def report(bench: Bench, case: str, ours: dict[str, list[Run]], others: dict[str, list[PeerRun]], limits: tuple[float, float]) -> None:
    """Rows of one job: times by the clock (median and least) and by the processor, phases, the limit, and the extra runs."""

    def times(runs: Sequence[Run | PeerRun]) -> dict[str, float]:
        clock, cpu = [run.seconds for run in runs], [run.cpu_seconds for run in runs]
        return {"time": statistics.median(clock), "best_time": min(clock), "cpu_time": statistics.median(cpu)}

    peers = {name: times(runs) for name, runs in others.items()}
    single_pass = {name: peers.pop(name) for name in others if PEERS[name].passes}
    if ours["fast"]:
        peers["fast"] = times(ours["fast"])
    peers["roof"] = {"time": limits[0], "best_time": limits[0], "cpu_time": limits[1]}
    for metric, value in times(ours["time"]).items():
        for name, values in peers.items():
            bench.compare(case, "editscore", metric, value, "s", peer=name, peer_value=values[metric])
    seconds = times(ours["time"])["time"]
    if ours["fast"]:
        bench.add(case, "editscore", "exact_over_fast", seconds / peers["fast"]["time"], "x")
    bench.add(case, "editscore", "tokens_per_second", sum(len(c.tokens) for c in ours["time"][0].completions) / seconds, "tokens/s")
    for phase in ours["time"][0].phases:
        bench.add(case, "editscore", f"time_{phase}", statistics.median(run.phases[phase] for run in ours["time"]), "s")
    if ours["one_pass"]:
        single = statistics.median(run.seconds for run in ours["one_pass"])
        bench.add(case, "editscore", "time_of_one_pass", single, "s")
        for metric, value in times(ours["one_pass"]).items():
            for name, values in single_pass.items():
                bench.compare(case, "editscore", f"{metric}_of_one_pass", value, "s", peer=name, peer_value=values[metric])
        bench.add(case, "editscore", "cost_of_passes", seconds / single, "x")
        bench.add(case, "editscore", "time_with_grammar", statistics.median(run.seconds for run in ours["grammar"]), "s")
        tokens = statistics.mean(len(c.tokens) for c in ours["grammar"][0].completions)
        bench.add(case, "editscore", "tokens_with_grammar", tokens, "tokens")


if __name__ == "__main__":
    app()
