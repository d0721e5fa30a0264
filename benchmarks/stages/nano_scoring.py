"""Case `nano` of bench_scoring: EditWorld edits through the engine, beside Hugging Face `generate` on the same prompts and weights.

The requests are those of the judge that the checkpoint's editscore.json names: SC and PQ of each edit. Peers:

- `hf_sequential`: one `generate` per request and pass, as the published scorer calls it;
- `hf_batched`: one `generate` per request with `num_return_sequences` = passes.

Each peer samples with the same temperature, top-k and top-p and makes exactly as many tokens per answer as ours had (forced ones
included: it cannot skip them; batched: their mean over the passes, so no answer waits for a longer one). Peers run on the first
`--peer-edits` edits and are scaled by the number of edits. Rounds are interleaved; the figure is the median. `cpu_time` is the
processor time of the same runs, which a busy neighbour disturbs less. Before anything is timed, greedy tokens are compared.

Without the embedded judge's weights (`--model random`) the same architecture runs with random ones.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image
import torch
import transformers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.harness import Bench
from editscore.engine import Engine, EngineConfig
from editscore.judges import make_judge
from editscore.models.vlm import VisionLanguageModel, load_model, resolve
from editscore.types import Completion, EditSample, Image, Request, Sampling, Text
from editscore.world import sample_group, vocabulary

PEERS = ("hf_sequential", "hf_batched")
NUM_CHECKED, NUM_CHECKED_TOKENS = 4, 16


@dataclass(frozen=True)
class Spent:
    """Seconds of one run by the clock and by the processor."""

    time: float
    cpu_time: float


class HuggingFace:
    """The same checkpoint through transformers alone, at its documented settings: SDPA attention and its own cache."""

    def __init__(self, folder: Path, model: VisionLanguageModel) -> None:
        self.model, self.resize = model, model.pixel_rule.resize
        family = getattr(transformers, type(model.network).__name__)
        self.network = family.from_pretrained(folder, dtype=model.dtype, attn_implementation="sdpa").eval()
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)

    def inputs(self, request: Request) -> dict[str, torch.Tensor]:
        """Token ids, patches and grids, as the published processor gives them."""
        tokens = torch.from_numpy(self.model.render(request.messages, request.images).tokens)[None]
        images = [PIL.Image.frombytes("RGB", (x.width, x.height), x.pixels) for x in request.images]
        if self.resize:
            images = [image.resize(self.resize, PIL.Image.Resampling.BICUBIC) for image in images]
        return {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "mm_token_type_ids": (tokens == self.model.image_token_id).int(),
            **self.processor(images=images, return_tensors="pt"),
        }

    @torch.inference_mode()
    def generate(self, request: Request, num_tokens: int, num_sequences: int = 1) -> torch.Tensor:
        """Exactly `num_tokens` tokens for each of `num_sequences` answers [num_sequences, num_tokens]."""
        s, inputs = request.sampling, self.inputs(request)
        draw = (
            {"do_sample": True, "temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p} if s.temperature else {"do_sample": False}
        )
        lengths = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens}
        out = self.network.generate(**inputs, **lengths, **draw, num_return_sequences=num_sequences, repetition_penalty=1.0)
        return out[:, inputs["input_ids"].shape[1] :]

    def sequential(self, requests: Sequence[Request], lengths: Sequence[Sequence[int]]) -> None:
        """One call per request and pass."""
        for request, per_pass in zip(requests, lengths, strict=True):
            for num_tokens in per_pass:
                self.generate(request, num_tokens)

    def batched(self, requests: Sequence[Request], lengths: Sequence[Sequence[int]]) -> None:
        """One call per request."""
        for request, per_pass in zip(requests, lengths, strict=True):
            self.generate(request, round(statistics.mean(per_pass)), len(per_pass))


def edit_requests(num_edits: int, passes: int, folder: Path) -> list[Request]:
    """SC and PQ of report edits, four per group, as the checkpoint's own judge asks them."""
    path = folder / "editscore.json"
    settings = json.loads(path.read_text("utf-8")) if path.exists() else {}
    judge = make_judge(settings.get("judge", "pointwise"), settings)
    requests: list[Request] = []
    for index in range(-(-num_edits // 4)):
        group = sample_group("report", index)
        for edit in group.edits[: num_edits - len(requests) // 2]:
            sample = EditSample(to_record(group.source), to_record(edit.image), group.instruction)
            requests += next(judge.run(sample, num_passes=passes, seed=42))
    return requests


def to_record(pixels: np.ndarray) -> Image:
    """An array [H, W, 3] as the record that judges take."""
    return Image(pixels.shape[1], pixels.shape[0], np.ascontiguousarray(pixels).tobytes())


def write_random_judge(folder: Path) -> Path:
    """A checkpoint of the embedded judge's architecture with random weights."""
    from editscore.tuning.nano.architecture import build_model
    from editscore.tuning.nano.config import NanoArchitecture
    from editscore.tuning.nano.export import judge_config, write_checkpoint
    from editscore.tuning.nano.vocabulary import build_tokenizer, token_ids

    tokenizer, shape = build_tokenizer(vocabulary()), NanoArchitecture()
    ids = token_ids(tokenizer)
    network = build_model(shape, ids, max(ids.values()) + 1, 0)
    write_checkpoint(folder, network, tokenizer, torch.nn.Linear(shape.hidden, 1), judge_config(0.0, vocabulary(), Sampling()))
    return folder


def check_greedy(model: VisionLanguageModel, peer: HuggingFace, requests: Sequence[Request]) -> None:
    """Raises SystemExit unless greedy tokens are those of `generate` (up to the end token, after which a peer pads)."""
    chosen = [Request(r.messages, (Text(NUM_CHECKED_TOKENS),), sampling=Sampling(temperature=0.0)) for r in requests[:NUM_CHECKED]]
    for request, completion in zip(chosen, Engine(model, EngineConfig(kv_memory_mb=64)).generate(chosen), strict=True):
        expected = peer.generate(request, len(completion.tokens))[0].tolist()
        # A peer that is told to make a fixed number of tokens may not end, where ours did.
        is_ended = completion.tokens[-1] in model.eos_token_ids
        if list(completion.tokens)[: -1 if is_ended else None] != expected[: -1 if is_ended else None]:
            raise SystemExit(f"greedy tokens differ: ours {completion.tokens}, transformers {expected}")
    print(f"greedy tokens of {len(chosen)} prompts are those of transformers")


def spend(run: Callable[[], object]) -> Spent:
    """Runs once and says what it took."""
    clock, cpu = time.perf_counter(), time.process_time()
    run()
    return Spent(time.perf_counter() - clock, time.process_time() - cpu)


def measure(
    model: VisionLanguageModel, peer: HuggingFace, requests: list[Request], peer_edits: int, rounds: int
) -> tuple[dict[str, list[Spent]], list[Completion]]:
    """Interleaved runs of ours over all requests and of the peers over the first edits, and our completions."""
    completions = Engine(model).generate(requests)
    passes = requests[0].num_passes
    lengths = [[len(c.tokens) for c in completions[i * passes : (i + 1) * passes]] for i in range(len(requests))]
    few = slice(0, 2 * peer_edits)
    subjects: dict[str, Callable[[], object]] = {
        "editscore": lambda: Engine(model).generate(requests),
        "hf_sequential": lambda: peer.sequential(requests[few], lengths[few]),
        "hf_batched": lambda: peer.batched(requests[few], lengths[few]),
    }
    peer.generate(requests[0], 4, 2)
    spent: dict[str, list[Spent]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, run in subjects.items():
            spent[name].append(spend(run))
    return spent, completions


def run_nano(
    *,
    edits: int = 200,
    passes: int = 4,
    model: str = "nano",
    peer_edits: int = 4,
    rounds: int = 3,
    threads: tuple[int, ...] = (1, 2),
    dtype: str = "float32",
    save: bool = True,
) -> None:
    """The embedded judge's 200 edits against transformers, and its rows."""
    with TemporaryDirectory() as scratch:
        folder = write_random_judge(Path(scratch) / "random") if model == "random" else resolve(model)
        config = {"edits": edits, "passes": passes, "model": model, "peer_edits": peer_edits, "rounds": rounds, "dtype": dtype}
        bench = Bench("scoring", config=config)
        loaded = load_model(folder, dtype=dtype)
        peer, requests = HuggingFace(folder, loaded), edit_requests(edits, passes, folder)
        check_greedy(loaded, peer, requests)
        for count in threads:
            torch.set_num_threads(count)
            spent, completions = measure(loaded, peer, requests, peer_edits, rounds)
            report(
                bench,
                f"{edits} edits K={passes} {model} {dtype} {count} thread{'s' if count > 1 else ''}",
                spent,
                completions,
                edits / peer_edits,
            )
    if save:
        print(bench.save())


def report(bench: Bench, case: str, spent: dict[str, list[Spent]], completions: list[Completion], scale: float) -> None:
    """Rows of one case: medians of the clock and of the processor, peers scaled to all edits."""
    for metric in ("time", "cpu_time"):
        medians = {name: statistics.median(getattr(s, metric) for s in values) for name, values in spent.items()}
        for name in PEERS:
            bench.compare(case, "editscore", metric, medians["editscore"], "s", peer=name, peer_value=medians[name] * scale)
    seconds = statistics.median(s.time for s in spent["editscore"])
    sampled = sum(c.num_sampled_tokens for c in completions)
    bench.add(case, "editscore", "tokens_per_answer", statistics.mean(len(c.tokens) for c in completions), "tokens")
    bench.add(case, "editscore", "sampled_tokens_per_second", sampled / seconds, "tokens/s")
