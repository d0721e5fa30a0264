"""openvino-genai on a job folder: continuous batching with prefix caching, bf16 arithmetic over the exported graph.

Run by the interpreter that `openvino.sh` sets up: `openvino_run.py JOB IR [--threads 2] [--limit N] [--no-prime]`. Prompts of one call do
not share what they begin with, so with priming one token of a first prompt of each kind and group is drawn in a call of its own, as its
documentation of prefix caching asks for; both calls are timed.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
import PIL.Image

SETTINGS = {"max_num_batched_tokens": 4096, "max_num_seqs": 256, "cache_size": 4}


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("ir", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--prime", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--kv", default="bf16")
    parser.add_argument("--batched", type=int, default=4096)
    args = parser.parse_args()
    job = json.loads((args.job / "job.json").read_text("utf-8"))
    prompts = job["prompts"][: args.limit or None]
    pictures = {name: picture(args.job / name) for prompt in prompts for name in prompt["images"]}
    pipe, properties = load(args)

    def generate(chosen: list, **fields: object) -> list:
        config = configuration(job, **fields)
        images = [[pictures[name] for name in prompt["images"]] for prompt in chosen]
        return pipe.generate([prompt["text"] for prompt in chosen], images, [config] * len(chosen))

    warm = {"text": "<|im_start|>user\nready?<|im_end|>\n<|im_start|>assistant\n", "images": []}
    generate([warm], max_new_tokens=8, num_return_sequences=4)
    start, cpu_start = time.perf_counter(), time.process_time()
    first = list({(p["kind"], p["group"] if p["kind"] == "sc" else 0): p for p in reversed(prompts)}.values()) if args.prime else []
    if first:
        generate(first, max_new_tokens=1)
    primed_s = time.perf_counter() - start
    results = generate(prompts, max_new_tokens=job["num_tokens"], num_return_sequences=job["passes"])
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    greedy = generate(prompts, max_new_tokens=1, do_sample=False)
    report = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "primed_seconds": primed_s,
        "num_prompts": len(prompts),
        "num_prompt_tokens": [r.perf_metrics.get_num_input_tokens() for r in results],
        "num_tokens": [r.perf_metrics.get_num_generated_tokens() for r in results],
        "texts": [str(results[0].finish_reasons), [len(x) for x in results[0].full_token_ids] if results[0].full_token_ids else str(results[0].full_token_ids)],
        "greedy": [r.texts[0] for r in greedy],
        "settings": SETTINGS | properties | {"prime": args.prime},
        "versions": {"openvino": ov.__version__, "openvino_genai": genai.__version__},
    }
    print(json.dumps(report))


def load(args: argparse.Namespace) -> tuple:
    """The pipeline and the properties of its device."""
    scheduler = genai.SchedulerConfig()
    for name, value in (SETTINGS | {"max_num_batched_tokens": args.batched}).items():
        setattr(scheduler, name, value)
    scheduler.enable_prefix_caching = True
    scheduler.dynamic_split_fuse = True
    properties = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": args.kv, "INFERENCE_NUM_THREADS": args.threads}
    return genai.ContinuousBatchingPipeline(str(args.ir), scheduler, "CPU", properties), properties


def configuration(job: dict, **fields: object) -> genai.GenerationConfig:
    """The job's sampling; ends are ignored and the prompt is taken as it stands."""
    config = genai.GenerationConfig()
    sampling = job["sampling"]
    settings = {"do_sample": True, "temperature": sampling["temperature"], "top_p": sampling["top_p"], "top_k": sampling["top_k"]}
    settings |= {"rng_seed": sampling["seed"], "ignore_eos": True, "apply_chat_template": False, "repetition_penalty": 1.0}
    for name, value in (settings | fields).items():
        setattr(config, name, value)
    return config


def picture(path: Path) -> ov.Tensor:
    """A picture as the tensor [1, H, W, 3] that the pipeline wants."""
    with PIL.Image.open(path) as image:
        return ov.Tensor(np.asarray(image.convert("RGB"))[None])


if __name__ == "__main__":
    main()
