"""What the runners `<peer>_run.py` share: the job, a warm-up prompt, the clock, and the JSON line that they print.

A runner is a script inside its peer's environment and finds this module beside it; of the project it knows nothing.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

PARSER = argparse.ArgumentParser()
PARSER.add_argument("folder", type=Path)
PARSER.add_argument("--threads", type=int, default=2)
PARSER.add_argument("--limit", type=int, default=0, help="prompts to take, half of each kind; 0 is all")


@dataclass(frozen=True)
class PeerJob:
    """The prompts that a peer runs, their pictures by name, and how answers are drawn."""

    folder: Path
    threads: int
    prompts: list[dict[str, Any]]
    pictures: dict[str, PIL.Image.Image]
    passes: int
    num_tokens: int
    sampling: dict[str, float]
    seed: int

    @staticmethod
    def read(args: argparse.Namespace) -> "PeerJob":
        """The job in `args.folder`, cut to `args.limit`."""
        job = json.loads((args.folder / "job.json").read_text("utf-8"))
        prompts = job["prompts"]
        if args.limit:
            kept = {id(p) for kind in ("sc", "pq") for p in [p for p in prompts if p["kind"] == kind][: args.limit // 2]}
            prompts = [p for p in prompts if id(p) in kept]
        names = {name for prompt in prompts for name in prompt["images"]}
        pictures = {name: PIL.Image.open(args.folder / name).convert("RGB") for name in names}
        sampling = {name: job["sampling"][name] for name in ("temperature", "top_p", "top_k")}
        pictures["blank"] = PIL.Image.new("RGB", next(iter(pictures.values())).size, "gray")
        return PeerJob(args.folder, args.threads, prompts, pictures, job["passes"], job["num_tokens"], sampling, job["sampling"]["seed"])

    @property
    def warm_up(self) -> dict[str, Any]:
        """A prompt that begins like none of the job's."""
        image = "<|vision_start|><|image_pad|><|vision_end|>"
        text = f"<|im_start|>user\n{image}Is this gray?<|im_end|>\n<|im_start|>assistant\n"
        return {"name": "warm-up", "kind": "pq", "text": text, "images": ["blank"]}

    def images(self, prompt: Mapping[str, Any]) -> list[PIL.Image.Image]:
        """The pictures of a prompt in the order in which it names them."""
        return [self.pictures[name] for name in prompt["images"]]


def measure(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What `run` returns, and its seconds by the clock and by the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}


def report(
    job: PeerJob,
    spent: Mapping[str, float],
    *,
    num_prompt_tokens: Sequence[int],
    num_tokens: Sequence[int],
    greedy: Mapping[str, str],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> None:
    """Prints the line: tokens of every prompt, tokens of every pass, and the likeliest first token of some prompts as text."""
    counts = {prompt["name"]: count for prompt, count in zip(job.prompts, num_prompt_tokens, strict=True)}
    line = {"num_prompt_tokens": counts, "num_tokens": list(num_tokens), "greedy": dict(greedy), **spent}
    print(json.dumps(line | {"settings": dict(settings), "versions": dict(versions)}), flush=True)
