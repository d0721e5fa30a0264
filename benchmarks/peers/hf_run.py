"""transformers' `generate` on a job folder, SDPA attention and its own cache.

Run by the interpreter that `hf.sh` sets up: `hf_run.py JOB --mode sequential|batched [--threads 2] [--limit N]`.

`sequential` makes one call per prompt and pass, as the published scorer does. `batched` puts 12 prompts of one kind, padded on the left,
into a call with `num_return_sequences` = passes.
"""

from typing import Any

import torch
import transformers
from peer_job import PARSER, PeerJob, measure, report
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

BATCH, NUM_GREEDY = 12, 8
PAD = "<|image_pad|>"


def main() -> None:
    """Runs the job and prints the line."""
    PARSER.add_argument("--mode", choices=("sequential", "batched"), required=True)
    args = PARSER.parse_args()
    job = PeerJob.read(args)
    torch.set_num_threads(job.threads)
    transformers.set_seed(job.seed)
    peer = Peer(job)
    size, passes = (BATCH, job.passes) if args.mode == "batched" else (1, 1)
    kinds = [[prompt for prompt in job.prompts if prompt["kind"] == kind] for kind in ("sc", "pq")]
    calls = [prompts[i : i + size] for prompts in kinds for i in range(0, len(prompts), size)]

    def run() -> list[int]:
        return [len(row) for chosen in calls for _ in range(job.passes // passes) for row in peer.generate(chosen, job.num_tokens, passes)]

    peer.generate([job.warm_up], 8, passes)
    lengths, spent = measure(run)
    some = job.prompts[:NUM_GREEDY]
    report(
        job,
        spent,
        num_prompt_tokens=[int(peer.inputs([prompt])["attention_mask"].sum()) for prompt in job.prompts],
        num_tokens=lengths,
        greedy={p["name"]: peer.tokenizer.decode(peer.generate([p], 1, 1, do_sample=False)[0]) for p in some},
        settings={"mode": args.mode, "batch": size, "num_return_sequences": passes, "attention": "sdpa", "threads": job.threads},
        versions={"transformers": transformers.__version__, "torch": torch.__version__},
    )


class Peer:
    """The model, its tokenizer and its image processor."""

    def __init__(self, job: PeerJob) -> None:
        model = job.folder / "model"
        family = transformers.Qwen2_5_VLForConditionalGeneration
        self.network = family.from_pretrained(model, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model / "tokenizer.json"), pad_token="<|endoftext|>")
        self.tokenizer.padding_side = "left"
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(model)
        self.job = job

    def inputs(self, prompts: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """What the published processor gives: a placeholder per merged patch, patches and grids."""
        pixels = self.processor(images=[image for prompt in prompts for image in self.job.images(prompt)], return_tensors="pt")
        counts = iter((pixels["image_grid_thw"].prod(1) // 4).tolist())
        texts = []
        for prompt in prompts:
            first, *others = prompt["text"].split(PAD)
            texts.append(first + "".join(PAD * next(counts) + piece for piece in others))
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
        return {**tokens, **pixels, "mm_token_type_ids": (tokens["input_ids"] == self.network.config.image_token_id).int()}

    @torch.inference_mode()
    def generate(self, prompts: list[dict[str, Any]], num_tokens: int, num_sequences: int, do_sample: bool = True) -> torch.Tensor:
        """Answers [prompts * num_sequences, num_tokens]."""
        inputs = self.inputs(prompts)
        settings = {"do_sample": do_sample, "max_new_tokens": num_tokens, "num_return_sequences": num_sequences, "repetition_penalty": 1.0}
        settings |= self.job.sampling if do_sample else {}
        return self.network.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :]


if __name__ == "__main__":
    main()
