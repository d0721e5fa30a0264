"""What exact answers cost: one set of requests through engines in exact and in fast mode, and on a GPU with and without CUDA graphs.

    python -m benchmarks.gpu_engine [--device cuda] [--model nano] [--dtype bfloat16] [--requests 64] [--rounds 3] [--no-save]

Fast mode reads prompts by flash-attn where it is installed; a row says so where it is not. Before anything is timed, exact answers are
compared bit for bit with those of requests run alone, and with graphs off.
"""

import argparse

import torch

from benchmarks.harness import Bench, time_interleaved
from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import VisionLanguageModel, load_model
from editscore.types import Completion, Literal, Message, Request, Text, TextPart

NUM_TOKENS, NUM_PASSES = 48, 4


def requests(count: int) -> list[Request]:
    """Prompts of several lengths, each with a self-ensemble of passes over free text."""
    texts = ["add a red car to the left of the house " * (1 + i % 5) + str(i) for i in range(count)]
    answer = (Literal("the "), Text(NUM_TOKENS))
    return [Request((Message("user", (TextPart(text),)),), answer=answer, num_passes=NUM_PASSES, seed=i) for i, text in enumerate(texts)]


def checked(model: VisionLanguageModel, asked: list[Request], config: EngineConfig) -> list[Completion]:
    """The exact answers, after a look at some of them alone and without graphs."""
    together = Engine(model, config).generate(asked)
    for i in (0, len(asked) // 2, len(asked) - 1):
        if Engine(model, config).generate([asked[i]]) != together[NUM_PASSES * i : NUM_PASSES * (i + 1)]:
            raise AssertionError(f"request {i} is not the same alone")
    if Engine(model, config.model_copy(update={"cuda_graphs": False})).generate(asked) != together:
        raise AssertionError("answers with graphs and without differ")
    return together


def main() -> None:
    """Prints and appends to benchmarks/results/gpu_engine.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    options = parser.parse_args()
    model, asked = load_model(options.model, device=options.device, dtype=options.dtype), requests(options.requests)
    is_cuda = options.device.startswith("cuda")
    exact = EngineConfig()
    checked(model, asked, exact)
    configs = {"exact": exact, "fast": EngineConfig(mode="fast")}
    if is_cuda:
        configs["exact, no graphs"] = EngineConfig(cuda_graphs=False)
    engines = {name: Engine(model, config) for name, config in configs.items()}
    subjects = {name: (lambda engine=engine: engine.generate(asked)) for name, engine in engines.items()}
    timings = time_interleaved(subjects, rounds=options.rounds, sync=torch.cuda.synchronize if is_cuda else None)
    bench = Bench("gpu_engine", config=vars(options) | {"num_tokens": NUM_TOKENS, "num_passes": NUM_PASSES})
    case = f"{options.model} {options.dtype} {options.requests} x {NUM_PASSES} on {options.device.partition(':')[0]}"
    for name in list(subjects)[1:]:
        bench.compare(case, "exact", "time", timings["exact"].min_s, "s", peer=name, peer_value=timings[name].min_s)
    if is_cuda and engines["fast"].stats.flash_prefill != "yes":
        bench.absent(case, "flash_attn", engines["fast"].stats.flash_prefill.removeprefix("no: "))
    print({name: {"graphs": engine.stats.graphs, "flash_prefill": engine.stats.flash_prefill} for name, engine in engines.items()})
    if not options.no_save:
        print(bench.save())


if __name__ == "__main__":
    main()
