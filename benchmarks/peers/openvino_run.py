"""openvino-genai on a job folder: continuous batching with prefix caching, bf16 arithmetic, keys and values in bf16.

Run by the interpreter that `openvino.sh` sets up: `openvino_run.py JOB IR [--no-prime] [--threads 2] [--limit N]`. Prompts of one call
do not share what they begin with; so, unless told otherwise, the first prompt about each source and the first one about a single
picture are asked for one token in a call before, and both calls are timed.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from peer_job import PARSER, PeerJob, measure, report

SCHEDULER = {"max_num_batched_tokens": 4096, "max_num_seqs": 256, "cache_size": 4, "enable_prefix_caching": True}


def main() -> None:
    """Runs the job and prints the line."""
    PARSER.add_argument("ir", type=Path)
    PARSER.add_argument("--prime", action=argparse.BooleanOptionalAction, default=True)
    args = PARSER.parse_args()
    job = PeerJob.read(args)
    properties = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16", "INFERENCE_NUM_THREADS": job.threads}
    scheduler = genai.SchedulerConfig()
    for name, value in SCHEDULER.items():
        setattr(scheduler, name, value)
    pipe = genai.ContinuousBatchingPipeline(str(args.ir), scheduler, "CPU", properties)
    pictures = {name: ov.Tensor(np.asarray(picture)[None]) for name, picture in job.pictures.items()}

    def generate(prompts: list[dict[str, Any]], num_tokens: int, num_sequences: int = 1, **fields: Any) -> list[Any]:
        config = configuration(job, max_new_tokens=num_tokens, num_return_sequences=num_sequences, **fields)
        images = [[pictures[name] for name in prompt["images"]] for prompt in prompts]
        return pipe.generate([prompt["text"] for prompt in prompts], images, [config] * len(prompts))

    def run() -> list[Any]:
        if args.prime:
            firsts = {(p["kind"], p["group"] if p["kind"] == "sc" else 0): p for p in reversed(job.prompts)}
            generate(list(firsts.values()), 1)
        return generate(job.prompts, job.num_tokens, job.passes)

    generate([job.warm_up], 8, job.passes)
    results, spent = measure(run)
    # A pass that ended for its length has as many tokens as were asked for; the count in the metrics is of the whole call.
    full = genai.GenerationFinishReason.LENGTH
    report(
        job,
        spent,
        num_prompt_tokens=[result.perf_metrics.get_num_input_tokens() for result in results],
        num_tokens=[job.num_tokens if reason == full else 0 for result in results for reason in result.finish_reasons],
        greedy={p["name"]: x.texts[0] for p, x in zip(job.prompts, generate(job.prompts, 1, do_sample=False), strict=True)},
        settings=SCHEDULER | properties | {"prime": args.prime},
        versions={"openvino": ov.__version__, "openvino_genai": genai.__version__},
    )


def configuration(job: PeerJob, **fields: Any) -> genai.GenerationConfig:
    """The job's sampling; ends are ignored and the prompt is taken as it stands."""
    config = genai.GenerationConfig()
    fixed = {"do_sample": True, "rng_seed": job.seed, "ignore_eos": True, "apply_chat_template": False, "repetition_penalty": 1.0}
    for name, value in (fixed | job.sampling | fields).items():
        setattr(config, name, value)
    return config


if __name__ == "__main__":
    main()
