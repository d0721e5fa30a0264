"""`sample_tokens` against chains of torch calls that do the same work, and against one read of the logits.

    python -m benchmarks.ops.bench_sample_tokens [--rounds 5] [--threads 2] [--cases 1600x1000] [--device cpu]

Every subject draws one token per row and returns its log-probability before and after the filters. Subjects and the peers that do the
same work:

- `cpu`: temperature 0.7, top-k 20, top-p 0.9, against `topk_chain` (torch.topk, softmax of the k, logsumexp of the row) and
  `sort_chain` (a full sort, as samplers that must serve any top-k do);
- `cpu_top_p`: no top-k, against the sort chain without it;
- `cpu_unfiltered`: temperature only, against `multinomial_chain`.

All of them against `roof`: one sum over the logits, that is reading them once. On a GPU `cpu` is the backend that runs there.
"""

import argparse
from collections.abc import Callable

import torch
from editscore_kernels import SampledTokens, build_info, explain, instruction_set, instruction_sets, sample_tokens, use_instruction_set
from torch import Tensor

from benchmarks.harness import Bench, roof_subjects, time_interleaved

TEMPERATURE, TOP_K, TOP_P, SEED = 0.7, 20, 0.9, 42
CASES = {"192x152064": (192, 152_064), "1152x152064": (1152, 152_064), "24x152064": (24, 152_064), "1600x1000": (1600, 1000)}
DISTINCT_ROWS = 192  # a larger batch repeats them: the numbers of 1,152 rows take longer to draw than to sample
MAX_MULTINOMIAL = 40_000_000  # six times as many take seven seconds a call
MAX_SORTED = 4_000_000  # a sort of 192 x 152,064 takes seconds; 24 rows say as much
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def ours(logits: Tensor, backend: str, top_k: int = TOP_K, top_p: float = TOP_P) -> SampledTokens:
    """The op on one backend; requests are the row numbers."""
    request = torch.arange(len(logits), device=logits.device)
    filters = {"temperature": TEMPERATURE, "top_k": top_k, "top_p": top_p}
    return sample_tokens(logits, **filters, seed=SEED, request=request, position=0, backend=backend)  # type: ignore[arg-type]


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


def check(logits: Tensor, backend: str) -> None:
    """Tokens equal the reference's on every instruction set, and so do the log-probabilities to one unit in the last place."""
    some = logits[:: max(1, len(logits) // 32)]
    for top_k, top_p in ((TOP_K, TOP_P), (0, 1.0), (0, TOP_P)):
        expected = ours(some.cpu(), "reference", top_k, top_p)
        for name in instruction_sets() if backend == "cpu" else instruction_sets()[:1]:
            with use_instruction_set(name):
                got = ours(some, backend, top_k, top_p)
            if not torch.equal(got.token.cpu(), expected.token):
                raise AssertionError(f"{backend}, {name}: tokens differ from the reference at top_k={top_k}, top_p={top_p}")
            torch.testing.assert_close(got.logprob.cpu(), expected.logprob, rtol=2.4e-7, atol=1e-7)
            torch.testing.assert_close(got.logprob_raw.cpu(), expected.logprob_raw, rtol=2.4e-7, atol=1e-7)


def make_logits(rows: int, vocabulary: int, dtype: str, device: str) -> Tensor:
    """Normal random numbers of standard deviation 3; beyond `DISTINCT_ROWS` the rows repeat, each with a draw of its own."""
    few = torch.randn(min(rows, DISTINCT_ROWS), vocabulary, generator=torch.Generator().manual_seed(0)) * 3
    return few.to(DTYPES[dtype]).to(device).repeat(-(-rows // len(few)), 1)[:rows]


def run_case(bench: Bench, case: str, dtype: str, backend: str, options: argparse.Namespace) -> None:
    """One shape in one dtype: check, time, record."""
    logits = make_logits(*CASES[case], dtype, options.device)
    check(logits, backend)
    generator = torch.Generator(device=options.device).manual_seed(SEED)
    ours_of = {backend: (TOP_K, TOP_P), f"{backend}_top_p": (0, TOP_P), f"{backend}_unfiltered": (0, 1.0)}
    subjects: dict[str, Callable[[], object]] = {
        name: (lambda filters=filters: ours(logits, backend, *filters))  # type: ignore[misc]
        for name, filters in ours_of.items()
    }
    subjects["topk_chain"] = lambda: topk_chain(logits, generator)
    subjects["roof"] = roof_subjects(logits.numel() * logits.element_size(), options.device)["roof_read"]
    filtered, only_top_p, unfiltered = ours_of
    peers: dict[str, list[str]] = {filtered: ["topk_chain"], only_top_p: [], unfiltered: []}
    if logits.numel() <= MAX_MULTINOMIAL:
        subjects["multinomial_chain"] = lambda: multinomial_chain(logits, generator)
        peers[unfiltered].append("multinomial_chain")
    if logits.numel() <= MAX_SORTED:
        subjects["sort_chain"] = lambda: sort_chain(logits, generator)
        subjects["sort_chain_top_p"] = lambda: sort_chain(logits, generator, None)
        peers[filtered].append("sort_chain")
        peers[only_top_p].append("sort_chain_top_p")
    sync = torch.cuda.synchronize if options.device == "cuda" else None
    times = {name: timing.min_s * 1e3 for name, timing in time_interleaved(subjects, rounds=options.rounds, sync=sync).items()}
    label = " ".join([case, dtype] + [instruction_set()] * (backend == "cpu"))
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
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-save", action="store_true", help="print the rows only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": TOP_P, "seed": SEED}
    fits = ("cpu", "reference") if options.device == "cpu" else ("cuda", "triton", "reference")
    backend = next(name for name, answer in explain("sample_tokens") if answer == "yes" and name in fits)
    bench = Bench("sample_tokens", config=vars(options) | {"backend": backend} | settings | build_info())
    for case in options.cases:
        for dtype in options.dtypes:
            run_case(bench, case, dtype, backend, options)
    if not options.no_save:
        print(bench.save())


if __name__ == "__main__":
    main()
