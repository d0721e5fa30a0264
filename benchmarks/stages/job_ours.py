"""Our side of a job: the engine on the job's prompts, timed as a whole and by phase."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import PIL.Image
import torch

from benchmarks.stages.job_folder import NUM_TOKENS, read_job, read_requests
from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import Mode, VisionLanguageModel, load_model
from editscore.types import Choice, Completion, Image, ImagePart, Literal, Message, Request, Sampling, Status, Text, TextPart

GRADES = tuple(map(str, range(26)))
# With its 64 tokens in all: the JSON around the thoughts takes 13 of the tokenizer, the grades two each.
GRAMMAR = (
    Literal('{"reasoning": "'),
    Text(NUM_TOKENS - 16, on_limit="close"),
    Literal('", "score": ['),
    Choice("first", GRADES),
    Literal(", "),
    Choice("second", GRADES),
    Literal("]}"),
)


@dataclass
class Run:
    """One run: seconds by the clock and by the processor, by phase as the engine tells them, and what came out."""

    seconds: float
    cpu_seconds: float
    phases: dict[str, float]
    completions: list[Completion]


@dataclass
class Ours:
    """The loaded model and the job's requests."""

    folder: Path
    threads: int
    kv_memory_mb: int = 2048
    model: VisionLanguageModel = field(init=False)
    requests: list[Request] = field(init=False)

    def __post_init__(self) -> None:
        torch.set_num_threads(self.threads)
        self.model = load_model(self.folder / "model", dtype="bfloat16")
        self.requests = read_requests(self.folder)
        side = self.requests[0].images[0].width
        blank = Image(side, side, PIL.Image.new("RGB", (side, side), "gray").tobytes())
        warm_up = Request((Message("user", (ImagePart(blank), TextPart("Is this gray?"))),), (Text(8, on_limit="close"),), num_passes=4)
        self._engine().generate([warm_up])

    def _engine(self, mode: Mode = "exact") -> Engine:
        return Engine(self.model, EngineConfig(mode=mode, kv_memory_mb=self.kv_memory_mb))

    def run(self, *, passes: int | None = None, answer: tuple[Literal | Text | Choice, ...] | None = None, mode: Mode = "exact") -> Run:
        """All requests through a fresh engine, with other passes or another answer if given; the job's own ignores an end of text."""
        changes = {name: value for name, value in (("num_passes", passes), ("answer", answer)) if value is not None}
        requests = [msgspec.structs.replace(request, ignore_end_of_text=answer is None, **changes) for request in self.requests]
        engine = self._engine(mode)
        clock, cpu = time.perf_counter(), time.process_time()
        completions = engine.generate(requests)
        seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
        phases = engine.stats.seconds
        return Run(seconds, cpu_seconds, phases | {"rest": seconds - sum(phases.values())}, completions)

    def greedy(self) -> dict[str, str]:
        """The likeliest first token of every prompt, as text."""
        chosen = [Request(r.messages, (Text(1, on_limit="close"),), sampling=Sampling(temperature=0.0)) for r in self.requests]
        names = [prompt["name"] for prompt in read_job(self.folder)["prompts"]]
        texts = [self.model.chat.fast.decode(completion.tokens) for completion in self._engine().generate(chosen)]
        return dict(zip(names, texts, strict=True))

    def check(self, completions: Sequence[Completion]) -> None:
        """Raises SystemExit unless every pass has all of its tokens and every prompt the length that the job states."""
        passes = self.requests[0].num_passes
        expected = [prompt["num_prompt_tokens"] for prompt in read_job(self.folder)["prompts"] for _ in range(passes)]
        if [completion.num_prompt_tokens for completion in completions] != expected:
            raise SystemExit("the engine reads prompts of other lengths than the job states")
        if any(c.status is not Status.OK or c.num_sampled_tokens != NUM_TOKENS for c in completions):
            raise SystemExit(f"a pass did not end with exactly {NUM_TOKENS} sampled tokens")
