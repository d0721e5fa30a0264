"""vLLM's build for processors on a job folder: one engine with prefix caching, all prompts in one call, `n` = passes.

Run by the interpreter that `vllm.sh` sets up, with its libtcmalloc and libiomp5 preloaded: `vllm_run.py JOB [--threads 2] [--limit N]`.
"""

import argparse
import json
import os
import time
from pathlib import Path

SETTINGS = {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_model_len": 2048}
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=0)
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT, VLLM_CPU_OMP_THREADS_BIND=f"0-{args.threads - 1}", VLLM_LOGGING_LEVEL="WARNING")
    import PIL.Image
    import vllm

    job = json.loads((args.job / "job.json").read_text("utf-8"))
    prompts = job["prompts"][: args.limit or None]
    limits = {"limit_mm_per_prompt": {"image": 2, "video": 0}, "mm_processor_cache_gb": 1}
    engine = vllm.LLM(str(args.job / "model"), dtype="bfloat16", enable_prefix_caching=True, seed=0, **SETTINGS, **limits)
    inputs = []
    for prompt in prompts:
        images = [PIL.Image.open(args.job / name).convert("RGB") for name in prompt["images"]]
        inputs.append({"prompt": prompt["text"], "multi_modal_data": {"image": images}})
    sampling = {name: job["sampling"][name] for name in ("temperature", "top_p", "top_k", "seed")}
    params = vllm.SamplingParams(
        n=job["passes"], max_tokens=job["num_tokens"], ignore_eos=True, repetition_penalty=1.0, detokenize=False, **sampling
    )
    warm = vllm.SamplingParams(n=4, max_tokens=8, ignore_eos=True)
    engine.generate(["<|im_start|>user\nready?<|im_end|>\n<|im_start|>assistant\n"], warm, use_tqdm=False)
    start, cpu_start = time.perf_counter(), time.process_time()
    outputs = engine.generate(inputs, params, use_tqdm=False)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    greedy = engine.generate(inputs, vllm.SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True), use_tqdm=False)
    report = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "num_prompts": len(prompts),
        "num_prompt_tokens": [len(x.prompt_token_ids) for x in outputs],
        "num_tokens": [len(answer.token_ids) for x in outputs for answer in x.outputs],
        "greedy": [x.outputs[0].token_ids[0] for x in greedy],
        "settings": SETTINGS | {"enable_prefix_caching": True, "threads": args.threads},
        "versions": {"vllm": vllm.__version__},
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
