"""Where job S's time goes, operation by operation: torch's profiler around one run of the engine, on one thread.

    python -m benchmarks.stages.job_profile [--threads 1]

Writes benchmarks/results/job_s_profile.txt: the shares of matrix products, of attention, and of everything else in the time of the run by
the clock (the profiler's own cost is in the last), then the profiler's table. C++ that does not pass through torch's dispatcher (attention,
activations) would not show, so attention gets a name here.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from cyclopts import App
from editscore_kernels import PreparedAttention
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.harness import RESULTS, commit_once, machine
from benchmarks.stages.job_folder import JOBS, prepare, read_requests
from editscore.engine import Engine, EngineConfig, attention
from editscore.models.vlm import load_model

PRODUCTS = ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm")
ATTENTION = "editscore::shared_prefix_attention"
app = App(help=__doc__)


class NamedAttention(PreparedAttention):
    """Attention that the profiler sees."""

    def __call__(self, *tensors: Any) -> Any:
        with record_function(ATTENTION):
            return super().__call__(*tensors)


@app.default
def main(*, threads: int = 1) -> None:
    """Profile one run and write the file."""
    torch.set_num_threads(threads)
    folder = prepare(JOBS["job_s"])
    engine = Engine(load_model(folder / "model", dtype="bfloat16"), EngineConfig())
    requests = read_requests(folder)
    attention.PreparedAttention = NamedAttention  # type: ignore[misc]
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        engine.generate(requests)
        seconds = time.perf_counter() - start
    events = found.key_averages()
    spent = {
        "matrix products": sum(event.self_cpu_time_total for event in events if event.key in PRODUCTS),
        "attention": sum(event.self_cpu_time_total for event in events if "attention" in event.key),
    }
    shares = {name: microseconds / 1e6 / seconds for name, microseconds in spent.items()}
    shares["everything else"] = 1 - sum(shares.values())
    lines = [
        f"job S, bf16, {threads} thread(s), {machine()}, commit {commit_once()}: {seconds:.1f} s",
        ", ".join(f"{name} {share:.1%}" for name, share in shares.items()),
        "",
        events.table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=56),
    ]
    text = "\n".join(line.rstrip() for line in "\n".join(lines).splitlines()) + "\n"
    (RESULTS / "job_s_profile.txt").write_text(text, "utf-8")
    print("\n".join(lines[:2]))


if __name__ == "__main__":
    app()
