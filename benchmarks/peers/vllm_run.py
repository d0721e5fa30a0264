"""vLLM's build for processors on a job folder: one engine with prefix caching, all prompts in one call, `n` = passes.

Run by the interpreter that `vllm.sh` sets up, with the libraries that it names preloaded: `vllm_run.py JOB [--threads 2] [--limit N]`.
"""

import os
from typing import Any

from peer_job import PARSER, PeerJob, measure, report

SETTINGS = {"enable_prefix_caching": True, "max_num_seqs": 256, "max_num_batched_tokens": 8192, "max_model_len": 2048, "seed": 0}
LIMITS = {"limit_mm_per_prompt": {"image": 2, "video": 0}}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "4",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}


def main() -> None:
    """Runs the job and prints the line."""
    args = PARSER.parse_args()
    job = PeerJob.read(args)
    os.environ.update(ENVIRONMENT, VLLM_CPU_OMP_THREADS_BIND=f"0-{job.threads - 1}")
    import vllm

    engine = vllm.LLM(str(job.folder / "model"), dtype="bfloat16", **SETTINGS, **LIMITS)

    def generate(prompts: list[dict[str, Any]], num_tokens: int, num_sequences: int = 1, **fields: Any) -> list[Any]:
        # No seed per request: on a processor it fails as soon as a prompt is split over two steps ("does not use offset").
        settings = job.sampling | {"n": num_sequences, "max_tokens": num_tokens} | fields
        params = vllm.SamplingParams(ignore_eos=True, repetition_penalty=1.0, **settings)
        inputs = [{"prompt": prompt["text"], "multi_modal_data": {"image": job.images(prompt)}} for prompt in prompts]
        return engine.generate(inputs, params, use_tqdm=False)

    generate([job.warm_up], 8, job.passes)
    results, spent = measure(lambda: generate(job.prompts, job.num_tokens, job.passes))
    greedy = generate(job.prompts, 1, temperature=0.0)
    report(
        job,
        spent,
        num_prompt_tokens=[len(result.prompt_token_ids) for result in results],
        num_tokens=[len(answer.token_ids) for result in results for answer in result.outputs],
        greedy={prompt["name"]: result.outputs[0].text for prompt, result in zip(job.prompts, greedy, strict=True)},
        settings=SETTINGS | {"threads": job.threads},
        versions={"vllm": vllm.__version__},
    )


if __name__ == "__main__":
    main()
