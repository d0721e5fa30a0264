"""Peers of the jobs: each in an environment of its own under benchmarks/.cache/envs, run as a process, checked before it counts.

`benchmarks/peers/<script>.sh ENVS JOB` sets the environment up once and prints the interpreter, further arguments of the runner, and
libraries to preload as `preload=PATH`. `benchmarks/peers/<script>_run.py` prints one JSON line (`benchmarks.peers.peer_job.report`).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness import ROOT
from benchmarks.stages.job_folder import CACHE, read_job

SCRIPTS = ROOT / "benchmarks" / "peers"
# Share of the first greedy tokens that must be ours: near ties fall either way in bf16, another prompt or no picture changes nearly all.
MIN_AGREEMENT = 0.75


@dataclass(frozen=True)
class Peer:
    """How a peer is called. `limit` prompts of a job are run (0 is all), `max_rounds` times at most; then it is scaled to all prompts.

    `passes` is for a peer that draws another number of answers to a prompt than the job asks for; its time stands beside ours of as many.
    """

    script: str
    arguments: tuple[str, ...] = ()
    limit: Mapping[str, int] | None = None
    max_rounds: int = 1
    passes: Literal[1] | None = None

    def limit_for(self, job: str) -> int:
        """Prompts that it runs of a job, 0 for all."""
        return (self.limit or {}).get(job, 0)


PEERS = {
    "openvino": Peer("openvino", max_rounds=9),
    "vllm": Peer("vllm"),
    "llamacpp": Peer("llamacpp", passes=1),
    "hf_batched": Peer("hf", ("--mode", "batched"), limit={"job_s": 24}),
    "hf_sequential": Peer("hf", ("--mode", "sequential"), limit={"job_s": 4, "job_m": 2}),
}


@dataclass(frozen=True)
class PeerRun:
    """Seconds of a peer, scaled to the whole job, and what it says of itself."""

    seconds: float
    cpu_seconds: float
    num_prompts: int
    settings: dict[str, Any]
    versions: dict[str, str]


def run_peer(name: str, folder: Path, threads: int, greedy: Mapping[str, str]) -> PeerRun:
    """Sets the peer up if need be and runs it; SystemExit if it did not do the same work as we."""
    peer, job = PEERS[name], read_job(folder)
    job["passes"] = peer.passes or job["passes"]
    limit = peer.limit_for(job["name"])
    envs = CACHE / "envs"
    envs.mkdir(parents=True, exist_ok=True)
    setup = subprocess.run([SCRIPTS / f"{peer.script}.sh", envs, folder], check=True, stdout=subprocess.PIPE, text=True)
    interpreter, *others = setup.stdout.split()
    preload = [word.removeprefix("preload=") for word in others if word.startswith("preload=")]
    arguments = [word for word in others if not word.startswith("preload=")]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | ({"LD_PRELOAD": ":".join(preload)} if preload else {})
    command = [interpreter, SCRIPTS / f"{peer.script}_run.py", folder, *arguments, *peer.arguments]
    command += ["--threads", str(threads), "--limit", str(limit)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    said = json.loads(done.stdout.splitlines()[-1])
    check(name, said, job, limit or len(job["prompts"]), greedy)
    scale = len(job["prompts"]) / len(said["num_prompt_tokens"])
    return PeerRun(said["seconds"] * scale, said["cpu_seconds"] * scale, len(said["num_prompt_tokens"]), said["settings"], said["versions"])


def check(name: str, said: Mapping[str, Any], job: Mapping[str, Any], num_prompts: int, greedy: Mapping[str, str]) -> None:
    """Raises SystemExit unless a peer read the same prompts, generated all tokens, and mostly begins as we do."""
    expected = {prompt["name"]: prompt["num_prompt_tokens"] for prompt in job["prompts"]}
    counts = said["num_prompt_tokens"]
    if len(counts) != num_prompts or any(expected[prompt] != count for prompt, count in counts.items()):
        raise SystemExit(f"{name} read prompts of other lengths: {counts}, expected {expected}")
    if said["num_tokens"] != [job["num_tokens"]] * (num_prompts * job["passes"]):
        raise SystemExit(f"{name} generated {said['num_tokens']} tokens, expected {job['num_tokens']} for each of the passes")
    same = [greedy[prompt] == text for prompt, text in said["greedy"].items()]
    print(f"{name}: {sum(same)} of {len(same)} first greedy tokens are ours")
    if sum(same) < MIN_AGREEMENT * len(same):
        raise SystemExit(f"{name} begins otherwise: {said['greedy']}, ours {dict(greedy)}")
