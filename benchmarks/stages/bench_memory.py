"""What keys and values take at their peak, over passes K and over candidates of one source, beside a cache per pass.

    python -m benchmarks.stages.bench_memory [--plot docs/memory.svg] [--no-save]

The prompts are those of job S (benchmarks.stages.job_folder), SC and PQ of each candidate, answers of 16 tokens. `ours` is the peak of
pages in use. `unique` is what the distinct tokens take, counted here from the rendered prompts: beginnings in common once, in pages of 16,
and every pass's own tokens. `per_pass` is a cache of its own for every pass, as `generate` with `num_return_sequences` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from editscore_kernels.kv import PAGE_TOKENS

from benchmarks.harness import ROOT, Bench
from benchmarks.stages.job_folder import JOBS, prepare, read_requests
from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import VisionLanguageModel, load_model
from editscore.types import Request, Text

ANSWER_TOKENS = 16
PASSES, CANDIDATES = (1, 2, 4, 8, 16), (1, 2, 3, 4, 6)
MB = 2**20
COLORS = {"per_pass": "#c0504d", "ours": "#1f6f8b", "unique": "#7a9a3a"}
app = App(help=__doc__)


def peak_bytes(model: VisionLanguageModel, requests: Sequence[Request]) -> int:
    """The most that pages in use took while the requests ran."""
    engine = Engine(model, EngineConfig(kv_memory_mb=512))
    store = engine._runner.store
    for request in requests:
        engine.add(request)
    lowest, free, original = store.num_free, store.num_free, store.allocate

    def counting(count: int) -> object:
        nonlocal lowest
        pages = original(count)
        lowest = min(lowest, store.num_free)
        return pages

    store.allocate = counting  # type: ignore[method-assign, assignment]
    while engine.num_unfinished:
        engine.step()
    assert store.num_free == free, "every page came back"
    return (free - lowest) * page_bytes(model)


def page_bytes(model: VisionLanguageModel) -> int:
    """One page of all layers."""
    return 2 * model.num_layers * model.num_kv_heads * PAGE_TOKENS * model.head_dim * model.dtype.itemsize


def counted(model: VisionLanguageModel, requests: Sequence[Request]) -> dict[str, int]:
    """`unique` and `per_pass` in bytes."""
    prompts = [_tokens(model, request) for request in requests]
    beginnings = {tuple(tokens[:end]) for tokens in prompts for end in range(PAGE_TOKENS, len(tokens) + 1, PAGE_TOKENS)}
    own = sum(_pages(len(tokens) % PAGE_TOKENS + ANSWER_TOKENS) * r.num_passes for tokens, r in zip(prompts, requests, strict=True))
    partly = sum(bool(len(tokens) % PAGE_TOKENS) for tokens in set(prompts))
    whole = sum((len(tokens) + ANSWER_TOKENS) * r.num_passes for tokens, r in zip(prompts, requests, strict=True))
    return {"unique": (len(beginnings) + partly + own) * page_bytes(model), "per_pass": whole * page_bytes(model) // PAGE_TOKENS}


def _tokens(model: VisionLanguageModel, request: Request) -> tuple[object, ...]:
    """A prompt's tokens, those of an image told apart by its content."""
    prompt = model.render(request.messages, request.images)
    tokens: list[object] = prompt.tokens.tolist()
    for (first, length), image in zip(prompt.image_spans, request.images, strict=True):
        tokens[first : first + length] = [(image.digest, i) for i in range(length)]
    return tuple(tokens)


def _pages(num_tokens: int) -> int:
    return -(-num_tokens // PAGE_TOKENS)


def plot(series: dict[str, dict[str, list[tuple[int, float]]]]) -> str:
    """Two panels side by side as SVG: megabytes over K, and over candidates."""
    width, height, left = 300, 200, 54
    whole = f'width="{2 * (width + 60)}" height="{height + 60}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {whole} font-family="sans-serif" font-size="11"><rect {whole} fill="white"/>']
    for panel, (title, lines) in enumerate(series.items()):
        x0 = left + panel * (width + 60)
        top_x = max(x for points in lines.values() for x, _ in points)
        top_y = max(y for points in lines.values() for _, y in points)
        parts.append(f'<text x="{x0 + width / 2}" y="14" text-anchor="middle" font-weight="bold">{title}</text>')
        for share in (0.0, 0.5, 1.0):
            y = 24 + height * (1 - share)
            parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y}" y2="{y}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 5}" y="{y + 4}" text-anchor="end">{top_y * share:.0f} MB</text>')
        for place, (name, points) in enumerate(lines.items()):
            path = " ".join(f"{x0 + width * x / top_x:.1f},{24 + height * (1 - y / top_y):.1f}" for x, y in points)
            dash = ' stroke-dasharray="4 3"' if name == "unique" else ""
            parts.append(f'<polyline points="{path}" fill="none" stroke="{COLORS[name]}" stroke-width="2"{dash}/>')
            parts.append(f'<text x="{x0 + 10}" y="{38 + 14 * place}" fill="{COLORS[name]}">{name.replace("_", " ")}</text>')
        for x, _ in next(iter(lines.values())):
            parts.append(f'<text x="{x0 + width * x / top_x:.1f}" y="{height + 40}" text-anchor="middle">{x}</text>')
    return "\n".join([*parts, "</svg>", ""])


@app.default
def main(*, plot_to: Annotated[Path, Parameter(name="--plot")] = ROOT / "docs" / "memory.svg", save: bool = True) -> None:
    """Runs both series, prints and saves the rows, draws the picture."""
    folder = prepare(JOBS["job_s"])
    model = load_model(folder / "model", dtype="bfloat16")
    requests = read_requests(folder)
    bench = Bench("memory", config={"answer_tokens": ANSWER_TOKENS, "prompts": "job_s"})
    series = {
        "6 candidates, over passes K": _series(bench, model, requests, [(k, 6) for k in PASSES]),
        "K = 4, over candidates of a source": _series(bench, model, requests, [(4, c) for c in CANDIDATES]),
    }
    plot_to.write_text(plot(series), "utf-8")
    if save:
        print(bench.save())


def _series(
    bench: Bench, model: VisionLanguageModel, requests: Sequence[Request], cases: Iterable[tuple[int, int]]
) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {"per_pass": [], "ours": [], "unique": []}
    cases = list(cases)
    for passes, candidates in cases:
        some = [
            msgspec.structs.replace(request, num_passes=passes, answer=(Text(ANSWER_TOKENS, on_limit="close"),))
            for request in requests[: 2 * candidates]
        ]
        taken = {"ours": peak_bytes(model, some), **counted(model, some)}
        if taken["ours"] > 1.05 * taken["unique"]:
            raise AssertionError(f"K={passes}, {candidates} candidates: {taken} is more than the distinct tokens take")
        for peer in ("per_pass", "unique"):
            case = f"K={passes} candidates={candidates}"
            bench.compare(case, "ours", "peak_kv", taken["ours"] / MB, "MB", peer=peer, peer_value=taken[peer] / MB)
        for name, values in lines.items():
            values.append((passes if cases[0][1] == cases[-1][1] else candidates, taken[name] / MB))
    return lines


if __name__ == "__main__":
    app()
