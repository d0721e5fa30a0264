"""The whole recipe: train, choose the threshold, write the judge and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from editscore.data import atomic_write
from editscore.tuning.nano.card import Figures, measure, write_card
from editscore.tuning.nano.config import NanoConfig
from editscore.tuning.nano.domain import choose_threshold, instruction_words
from editscore.tuning.nano.export import judge_config, write_checkpoint
from editscore.tuning.nano.training import Run
from editscore.types import Sampling

PACKAGE_FOLDER: Final = Path(__file__).parents[2] / "models" / "vlm" / "nano"
# As published. On 104 development groups temperatures of .35 to .7 were within .015 of each other at K=1 and K=4.
SAMPLING: Final = Sampling(temperature=0.7, top_p=0.9, top_k=20)


def nano_recipe(**changes: Any) -> NanoConfig:
    """The configuration that made the judge in the package, with changes."""
    return NanoConfig(**changes)


def train_nano(config: NanoConfig, run_folder: Path, output: Path, *, resume: bool = False, threads: int = 1) -> Figures:
    """Train (or go on), measure on report groups and write the judge into `output`.

    `run_folder` keeps the checkpoint, the log and the curve; the last two are copied beside the weights. Raises
    InvalidInputError when it holds a run and `resume` is not set, or a run of another configuration.
    """
    torch.set_num_threads(threads)
    run = Run(config, run_folder, resume=resume)
    run.train()
    # Measured as it ships: through the rounding to bf16.
    nn.Module.to(nn.Module.to(run.model, torch.bfloat16), torch.float32)
    nn.Module.eval(run.model)
    head = run.heads.in_domain
    threshold = choose_threshold(run.model, head, run.encoder, config.world_seed)
    write_checkpoint(output, run.model, run.tokenizer, head, judge_config(threshold, instruction_words(), SAMPLING))
    figures = measure(run, threshold, SAMPLING)
    write_card(output, run, figures)
    for name, copy in (("log.txt", "training_log.txt"), ("curve.csv", "curve.csv"), ("config.json", "training.json")):
        with atomic_write(output / copy) as file:
            file.write((run_folder / name).read_bytes())
    run.say(f"wrote {output}")
    return figures
