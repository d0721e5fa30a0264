"""`sample_tokens` against chains of torch calls that do the same work, and against one read of the logits.

    python -m benchmarks.ops.bench_sample_tokens [--rounds 5] [--threads 2] [--cases 1600x1000]

Every subject draws one token per row and returns its log-probability before and after the filters. Subjects and the peers that do the
same work:

- `cpu`: temperature 0.7, top-k 20, top-p 0.9, against `topk_chain` (torch.topk, softmax of the k, logsumexp of the row) and
  `sort_chain` (a full sort, as samplers that must serve any top-k do);
- `cpu_top_p`: no top-k, against the sort chain without it;
- `cpu_unfiltered`: temperature only, against `multinomial_chain`.

All of them against `roof`: one sum over the logits, that is reading them once.
"""

import argparse
from collections.abc import Callable

import torch
from editscore_kernels import SampledTokens, build_info, instruction_sets, sample_tokens, use_instruction_set
from torch import Tensor

from benchmarks.harness import Bench, roof_subjects, time_interleaved

TEMPERATURE, TOP_K, TOP_P, SEED = 0.7, 20, 0.9, 42
CASES = {"192x152064": (192, 152_064), "24x152064": (24, 152_064), "1600x1000": (1600, 1000)}
MAX_SORTED = 4_000_000  # a sort of 192 x 152,064 takes seconds; 24 rows say as much
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ours(logits: Tensor, backend: str, top_k: int = TOP_K, top_p: float = TOP_P) -> SampledTokens:
    """The op on one backend; requests are the row numbers."""
    request = torch.arange(len(logits))
    return sample_tokens(logits, temperature=TEMPERATURE, top_k=top_k, top_p=top_p, seed=SEED, request=request, position=0, backend=backend)


def draw(x: Tensor, ranked: Tensor, ids: Tensor, raw_log_sum: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Top-p over descending logits [R, C], draw, and both log-probabilities."""
    probability = (ranked / TEMPERATURE).softmax(1)
    probability = torch.where(probability.cumsum(1) - probability < TOP_P, probability, 0.0)
    probability /= probability.sum(1, keepdim=True)
    place = torch.multinomial(probability, 1, generator=generator)
    token = ids.gather(1, place)
    return token[:, 0], x.gather(1, token)[:, 0].float() - raw_log_sum, probability.gather(1, place)[:, 0].log()


def topk_chain(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """torch.topk and a logsumexp of the whole row."""
    ranked, ids = x.topk(TOP_K, dim=1)
    return draw(x, ranked.float(), ids, x.float().logsumexp(1), generator)


def sort_chain(x: Tensor, generator: torch.Generator, top_k: int | None = TOP_K) -> tuple[Tensor, Tensor, Tensor]:
    """A full sort, then the same."""
    ranked, ids = x.sort(dim=1, descending=True)
    ranked = ranked.float()
    if top_k:
        ranked[:, top_k:] = -torch.inf
    return draw(x, ranked, ids, x.float().logsumexp(1), generator)


def multinomial_chain(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """No filter: softmax, multinomial, logsumexp."""
    probability = (x.float() / TEMPERATURE).softmax(1)
    token = torch.multinomial(probability, 1, generator=generator)
    return token[:, 0], x.gather(1, token)[:, 0].float() - x.float().logsumexp(1), probability.gather(1, token)[:, 0].log()


def check(logits: Tensor) -> None:
    """Tokens equal the reference's on every instruction set, and so do the log-probabilities to one unit in the last place."""
    some = logits[:: max(1, len(logits) // 32)]
    for top_k, top_p in ((TOP_K, TOP_P), (0, 1.0), (0, TOP_P)):
        expected = ours(some, "reference", top_k, top_p)
        for name in instruction_sets():
            with use_instruction_set(name):
                got = ours(some, "cpu", top_k, top_p)
            if not torch.equal(got.token, expected.token):
                raise AssertionError(f"{name}: tokens differ from the reference at top_k={top_k}, top_p={top_p}")
            torch.testing.assert_close(got.logprob, expected.logprob, rtol=2.4e-7, atol=1e-7)
            torch.testing.assert_close(got.logprob_raw, expected.logprob_raw, rtol=2.4e-7, atol=1e-7)


def run_case(bench: Bench, case: str, dtype: str, rounds: int) -> None:
    """One shape in one dtype: check, time, record."""
    rows, vocabulary = CASES[case]
    logits = (torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0)) * 3).to(DTYPES[dtype])
    check(logits)
    generator = torch.Generator().manual_seed(SEED)
    roof = roof_subjects(logits.numel() * logits.element_size())["roof_read"]
    subjects: dict[str, Callable[[], object]] = {
        "cpu": lambda: ours(logits, "cpu"),
        "cpu_top_p": lambda: ours(logits, "cpu", 0, TOP_P),
        "cpu_unfiltered": lambda: ours(logits, "cpu", 0, 1.0),
        "topk_chain": lambda: topk_chain(logits, generator),
        "multinomial_chain": lambda: multinomial_chain(logits, generator),
        "roof": roof,
    }
    peers = {"cpu": ["topk_chain"], "cpu_top_p": [], "cpu_unfiltered": ["multinomial_chain"]}
    if logits.numel() <= MAX_SORTED:
        subjects["sort_chain"] = lambda: sort_chain(logits, generator)
        subjects["sort_chain_top_p"] = lambda: sort_chain(logits, generator, None)
        peers["cpu"].append("sort_chain")
        peers["cpu_top_p"].append("sort_chain_top_p")
    times = {name: timing.min_s * 1e3 for name, timing in time_interleaved(subjects, rounds=rounds).items()}
    label = f"{case} {dtype} {instruction_sets()[-1]}"
    for name in peers:
        for peer in (*peers[name], "roof"):
            bench.compare(label, name, "time", times[name], "ms", peer=peer, peer_value=times[peer])
        bench.add(label, name, "reads_of_the_logits", times[name] / times["roof"], "")


def main() -> None:
    """Times the cases and appends to benchmarks/results/sample_tokens.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "seed": SEED}
    bench = Bench("sample_tokens", config=vars(options) | settings | build_info())
    for case in options.cases:
        for dtype in options.dtypes:
            run_case(bench, case, dtype, options.rounds)
    print(bench.save())


if __name__ == "__main__":
    main()
