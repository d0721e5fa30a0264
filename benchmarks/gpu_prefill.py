"""Attention of one layer while prompts are read, as the engine does it in exact and in fast mode: candidates of one source image.

    python -m benchmarks.gpu_prefill [--device cuda] [--prompts 6] [--shared 1024] [--own 512] [--no-save]

Prompts share their beginning, which lies in pages already; the rest of each is computed in one call. Heads of a Qwen2.5-VL-7B, bf16.

- `shared_prefix_attention`: the op over pages, after the new keys and values were written;
- `flash_attn`: the same writing, then keys gathered from their pages for `flash_attn_varlen_func`, or why it was not run;
- `sdpa`: torch's attention over dense keys of each prompt's own, its mask aligned to the bottom right; nothing is written or gathered.

All are compared with the same numbers in float32 before they are timed.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from editscore_kernels.append_kv import append_kv
from editscore_kernels.kv import PAGE_TOKENS, KVStore
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from benchmarks.harness import Bench, time_interleaved
from editscore.engine.attention import PagedAttention
from editscore.engine.batches import DeviceBatch, Stretch, prefill_batch
from editscore.engine.flash import FlashPrefill, SeenKeys
from editscore.engine.sequences import Leaf
from editscore.engine.transfer import to_device
from editscore.models.vlm import flash_attention_why_not

NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 28, 4, 128
SCALE = HEAD_DIM**-0.5
TOLERANCE = 2e-2  # of outputs of about 0.1


@dataclass(frozen=True)
class Prompts:
    """B prompts that share their first tokens: the numbers in dense tensors, and pages that hold what is shared."""

    q: Tensor  # [B, own, Hq, D]
    k: Tensor  # [B, shared + own, Hkv, D]
    v: Tensor
    store: KVStore
    stretches: list[Stretch]

    @staticmethod
    def of(num_prompts: int, shared: int, own: int, device: torch.device) -> "Prompts":
        """Normal random numbers; `shared` and `own` are multiples of 16."""
        generator = torch.Generator(device=device).manual_seed(0)

        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, HEAD_DIM, generator=generator, device=device).bfloat16()

        beginning = [normal(1, shared, NUM_KV_HEADS).expand(num_prompts, -1, -1, -1) for _ in "kv"]
        k, v = (torch.cat([x, normal(num_prompts, own, NUM_KV_HEADS)], 1) for x in beginning)
        num_pages = 1 + (shared + num_prompts * own) // PAGE_TOKENS
        store = KVStore(1, NUM_KV_HEADS, HEAD_DIM, num_pages, torch.bfloat16, device)
        pages = store.allocate(shared // PAGE_TOKENS)
        places = np.arange(shared, dtype=np.int32)
        slots = store.slots(pages[places // PAGE_TOKENS], places % PAGE_TOKENS)
        append_kv(k[0, :shared], v[0, :shared], store.k[0], store.v[0], slots, layout=store.layout)
        length, none = shared + own, np.zeros(shared + own, np.int64)
        leaves = [Leaf(b"", none, np.zeros((3, length), np.int64), length, length, (), (), (), shared) for _ in range(num_prompts)]
        for leaf in leaves:
            leaf.pages = np.concatenate([pages, store.allocate(own // PAGE_TOKENS)])
        return Prompts(normal(num_prompts, own, NUM_HEADS), k, v, store, [Stretch(leaf, shared, length) for leaf in leaves])

    def attends(self) -> dict[str, Callable[[], Tensor]]:
        """What the engine does, on tables that it makes once for all layers: the op, and flash-attn where it runs."""
        own, device = self.q.shape[1], self.q.device
        batch = prefill_batch(self.stretches, own * np.arange(len(self.stretches)), self.store, 1)
        seen = SeenKeys.of(self.stretches)
        tensors = to_device([*batch.arrays, *seen.arrays], device)
        on_device = DeviceBatch.of(tensors[: len(batch.arrays)])
        attends = {"shared_prefix_attention": PagedAttention(self.store, on_device.tables, on_device.slots)}
        if flash_attention_why_not(device) is None:
            attends["flash_attn"] = FlashPrefill(self.store, on_device.slots, seen, tensors[len(batch.arrays) :])  # type: ignore[assignment]
        q, k, v = self.q.flatten(0, 1), self.k[:, -own:].flatten(0, 1), self.v[:, -own:].flatten(0, 1)
        return {name: (lambda attend=attend: attend(0, q, k, v, SCALE)) for name, attend in attends.items()}  # type: ignore[misc]


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """torch's attention over each prompt's own keys: [B own, Hq, D]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=SCALE, enable_gqa=True).transpose(1, 2).flatten(0, 1)


def check(prompts: Prompts, subjects: Mapping[str, Callable[[], Tensor]]) -> None:
    """Raises AssertionError naming a subject that differs from float32."""
    own, length = prompts.q.shape[1], prompts.k.shape[1]
    mask = torch.ones(own, length, dtype=torch.bool, device=prompts.q.device).tril(length - own)
    expected = dense(prompts.q.float(), prompts.k.float(), prompts.v.float(), mask)
    for name, run in subjects.items():
        worst = float((run().float() - expected).abs().max())
        if not worst <= TOLERANCE:
            raise AssertionError(f"{name} differs from float32 by {worst}")


def main() -> None:
    """Appends to benchmarks/results/gpu_prefill.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--shared", type=int, default=1024)
    parser.add_argument("--own", type=int, default=512)
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    options = parser.parse_args()
    device = torch.device(options.device)
    prompts = Prompts.of(options.prompts, options.shared, options.own, device)
    mask = causal_lower_right(options.own, options.shared + options.own)
    subjects = prompts.attends() | {"sdpa": lambda: dense(prompts.q, prompts.k, prompts.v, mask)}
    check(prompts, subjects)
    timings = time_interleaved(subjects, sync=torch.cuda.synchronize if device.type == "cuda" else None)
    times = {name: timing.min_s * 1e3 for name, timing in timings.items()}
    bench = Bench("gpu_prefill", config=vars(options))
    case = f"{options.prompts} prompts, {options.shared} shared + {options.own} own tokens, bf16"
    for peer in [name for name in times if name != "shared_prefix_attention"]:
        bench.compare(case, "shared_prefix_attention", "time", times["shared_prefix_attention"], "ms", peer=peer, peer_value=times[peer])
    if "flash_attn" not in times:
        bench.absent(case, "flash_attn", str(flash_attention_why_not(device)))
    if not options.no_save:
        print(bench.save())


if __name__ == "__main__":
    main()
