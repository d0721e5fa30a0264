"""Run by test_memory.py in a process of its own: scores requests under a budget and prints what memory it took at most, as JSON.

python memory_process.py FOLDER MEMORY_GB|none NUM_REQUESTS
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
from edit_requests import edit_request
from transformers import Qwen2_5_VLForConditionalGeneration  # what a program holds before it loads anything

from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import load_model, read_sizes
from editscore.types import Message, Request, TextPart

MB = 2**20


def memory_mb(field: str) -> float:
    """A field of the kernel's account of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / MB


def long_request(index: int) -> Request:
    """A request whose prompt shares nothing with the others'."""
    request = edit_request(index, num_passes=4)
    rules = Message("system", (TextPart(f"rule {index} of the house. " * 30),))
    return Request((rules, *request.messages[1:]), request.answer, num_passes=4)


def main() -> None:
    """Import, note the memory, load, run, print."""
    folder, budget, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    assert Qwen2_5_VLForConditionalGeneration
    config = EngineConfig(memory_gb=None if budget == "none" else float(budget), kv_memory_mb=2048)
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    predicted = read_sizes(folder).weight_bytes / MB
    engine = Engine(load_model(folder), config)
    answers = engine.generate([long_request(i) for i in range(count)])
    texts = hashlib.sha256("\0".join(completion.text for completion in answers).encode()).hexdigest()
    found = {"peak_mb": memory_mb("VmHWM") - before, "texts": texts, "answers": len(answers), "weights_mb": predicted}
    network = engine.model.network
    numbers = sum(p.numel() for p in network.parameters()) + sum(getattr(m, "num_weights", 0) for m in network.modules())
    print(json.dumps(found | {"actual_mb": numbers * engine.model.dtype.itemsize / MB}))


if __name__ == "__main__":
    main()
