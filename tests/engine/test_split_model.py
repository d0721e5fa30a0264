"""An engine whose model is split over ranks, here in threads: the answers of a whole model, and no bit that depends on company."""

from __future__ import annotations

import dataclasses
import random
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from conftest import load_builder
from edit_requests import edit_request
from torch import Tensor

from editscore.engine import Engine, EngineConfig
from editscore.engine.memory import fixed_bytes, token_bytes, work_bytes
from editscore.models.vlm import Ranks, RanksError, VisionLanguageModel, load_model, share_of
from editscore.types import Completion, Request, Sampling, Text

sys.path.append(str(Path(__file__).parent.parent / "models"))
from thread_ranks import load_share, on_ranks

CONFIG = EngineConfig(kv_memory_mb=16)


class Listener:
    """A model's logits, as the engine got them."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self.heard: list[Tensor] = []
        ask = model.logits

        def note(hidden: Tensor, *, buffer: Tensor | None = None) -> Tensor:
            logits = ask(hidden, buffer=buffer)
            self.heard.append(logits.clone())
            return logits

        model.logits = note  # type: ignore[method-assign]


def requests_of(count: int, **options: object) -> list[Request]:
    """Of many lengths, every fifth free text."""
    answers = [(Text(15),) if i % 5 == 3 else None for i in range(count)]
    return [msgspec.structs.replace(edit_request(i, num_images=i % 3, answer=answer), **options) for i, answer in enumerate(answers)]


def test_greedy_tokens_are_those_of_the_whole_model_and_logits_up_to_rounding(folder: Path) -> None:
    requests = requests_of(10, sampling=Sampling(temperature=0))

    def run(ranks: Ranks | None) -> tuple[list[Completion], list[Tensor], dict[str, str]]:
        model = load_share(folder, ranks)
        engine, listener = Engine(model, CONFIG), Listener(model)
        return engine.generate(requests), listener.heard, engine.identity()

    completions, logits, identity = run(None)
    first, second = on_ranks(2, run)
    assert first[0] == second[0] and all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))
    assert [c.text for c in first[0]] == [c.text for c in completions]
    assert len({c.text for c in completions}) == 10
    assert max((a - b).abs().max().item() for a, b in zip(first[1], logits, strict=True)) < 1e-4
    differ = {name for name in identity if identity[name] != first[2][name]}
    assert differ == {"numerics"} and first[2] == second[2]


@pytest.mark.parametrize(("family", "num_ranks", "dtype"), [("qwen2_5_vl", 2, "bfloat16"), ("qwen3_vl", 4, "float32")])
def test_alone_together_and_shuffled_are_the_same(family: str, num_ranks: int, dtype: str, tmp_path: Path) -> None:
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4} if num_ranks == 4 else {}
    folder = load_builder().write_checkpoint(tmp_path / family, family, **heads)
    requests = requests_of(12, num_passes=2, logprobs=True)
    order = random.Random(1).sample(range(12), 12)

    def work(ranks: Ranks) -> tuple[list[Completion], ...]:
        model = load_share(folder, ranks, dtype)
        alone = [completion for i in (0, 3, 7) for completion in Engine(model, CONFIG).generate([requests[i]])]
        return Engine(model, CONFIG).generate(requests), Engine(model, CONFIG).generate([requests[i] for i in order]), alone

    results = on_ranks(num_ranks, work)
    together, shuffled, alone = results[0]
    assert all(result == results[0] for result in results)
    assert alone == [together[2 * i + k] for i in (0, 3, 7) for k in range(2)]
    assert together == [shuffled[2 * order.index(i) + k] for i in range(12) for k in range(2)]


def test_a_store_of_the_same_memory_holds_more_pages(qwen2_5: VisionLanguageModel, tmp_path: Path) -> None:
    folder = load_builder().write_checkpoint(tmp_path / "model", "qwen2_5_vl")
    whole, split = (Engine(model, CONFIG) for model in (qwen2_5, load_model(folder, ranks=Ranks(0, 2))))
    assert split._runner.num_pages == 2 * whole._runner.num_pages


def test_a_plan_of_memory_counts_what_the_ranks_bring_together(qwen2_5: VisionLanguageModel) -> None:
    whole = qwen2_5.sizes
    split = share_of(whole, 2)
    alone = dataclasses.replace(split, num_ranks=1)
    assert work_bytes(split, 100, 0, 1000) - work_bytes(alone, 100, 0, 1000) >= 100 * whole.hidden_size * (2 * 4 + 8) + 1000
    assert fixed_bytes(split) < fixed_bytes(whole) and token_bytes(split) == token_bytes(whole) // 2


def test_ranks_that_are_asked_different_things_all_hear_of_it(tmp_path: Path) -> None:
    folder = load_builder().write_checkpoint(tmp_path / "model", "qwen2_5_vl")

    def work(ranks: Ranks) -> None:
        engine = Engine(load_share(folder, ranks), CONFIG)
        with pytest.raises(RanksError, match="tokens differ between rank 0 and rank 1"):
            engine.generate([edit_request(1, seed=ranks.rank)])

    on_ranks(2, work)
