"""The two stages of the run: the vision tower alone, then the whole model."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from editscore.data import atomic_write
from editscore.tuning.nano.architecture import build_model
from editscore.tuning.nano.checkpoint import FILE_NAME, Checkpoint, Progress, save_checkpoint
from editscore.tuning.nano.config import NanoConfig
from editscore.tuning.nano.evaluation import expected_scores, pair_table
from editscore.tuning.nano.forward import patches, vision_features
from editscore.tuning.nano.losses import Heads, batch_losses, vision_loss
from editscore.tuning.nano.optimizer import Optimizers
from editscore.tuning.nano.producer import Producer
from editscore.tuning.nano.sequences import Encoder, Weights
from editscore.tuning.nano.vocabulary import build_tokenizer, token_ids
from editscore.types import InvalidInputError
from editscore.world import TASKS, Group, Split, sample_group, vocabulary, world_version

LOG_EVERY: Final = 50
CURVE_FIELDS: Final = ("minutes", "samples", "prompt_following", "consistency", "naturalness", "artifacts", "overall", "loss")


class Run:
    """One training run in a folder: `checkpoint.safetensors`, `tokenizer.json`, `config.json`, `log.txt`, `curve.csv`.

    Raises InvalidInputError when the folder holds a run already and `resume` is not set, or one of another configuration.
    """

    def __init__(self, config: NanoConfig, folder: Path, *, resume: bool = False) -> None:
        self.config, self.folder = config, folder
        if (folder / FILE_NAME).exists() and not resume:
            raise InvalidInputError("run", f"{folder} holds a run; go on with --resume or name another folder")
        self.tokenizer = _start_folder(folder, config)
        tokenizer = self.tokenizer
        ids = token_ids(tokenizer)
        self.encoder = Encoder(tokenizer, Weights(config.reasoning_weight, config.score_weight))
        self.model: Qwen2_5_VLForConditionalGeneration = build_model(config.architecture, ids, len(ids), config.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)
            self.heads = Heads(config.architecture.hidden)
        self.progress = Progress()
        self._means: dict[str, list[float]] = {}
        self._loss = float("nan")
        self._checkpoint = Checkpoint(folder, config) if resume and (folder / FILE_NAME).exists() else None
        if self._checkpoint is not None:
            self.progress = self._checkpoint.progress
            self.model.load_state_dict(self._checkpoint.part("model"))
            self.heads.load_state_dict(self._checkpoint.part("heads"))
            self.say(f"resumed the {self.progress.stage} stage at step {self.progress.step}, configuration {config.digest[:16]}")

    @property
    def modules(self) -> list[tuple[str, nn.Module]]:
        """What a checkpoint holds."""
        return [("model", self.model), ("heads", self.heads)]

    def say(self, line: str) -> None:
        """To the terminal and to the log."""
        print(line, flush=True)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def train(self) -> None:
        """Both stages, from wherever the checkpoint stands."""
        if self.progress.stage == "vision":
            self._stage(_VisionStage(self))
            self.progress = Progress("main", total_s=self.progress.total_s)
            self._checkpoint = None
        if self.progress.stage == "main":
            self._stage(_MainStage(self))
            self.progress.stage = "done"

    def _stage(self, stage: _VisionStage | _MainStage) -> None:
        if self._used(stage) >= 1.0:
            return
        optimizers = Optimizers(stage.modules, self.config)
        if self._checkpoint is not None:
            optimizers.load(self._checkpoint.part("optimizer"))
        saved_s = curve_s = self.progress.stage_s
        with stage.producer(self.progress.step) as batches:
            while (used := self._used(stage)) < 1.0:
                began = time.monotonic()
                stage.step(batches, optimizers, used)
                self.progress.step += 1
                self.progress.samples += stage.samples_per_step
                if self.progress.step % LOG_EVERY == 0:
                    self._log(stage)
                elapsed_s = time.monotonic() - began
                self.progress.stage_s += elapsed_s
                self.progress.total_s += elapsed_s
                if self.progress.stage_s - saved_s > self.config.checkpoint_minutes * 60:
                    save_checkpoint(self.folder, self.config, self.progress, self.modules, optimizers)
                    saved_s = self.progress.stage_s
                if stage.has_curve and self.progress.stage_s - curve_s > self.config.curve_minutes * 60:
                    self._curve()
                    curve_s = self.progress.stage_s
        if stage.has_curve:
            self._curve()
        save_checkpoint(self.folder, self.config, self.progress, self.modules, optimizers)

    def _used(self, stage: _VisionStage | _MainStage) -> float:
        """The share of the stage's budget that is gone, in samples or in time, whichever is more."""
        return max(self.progress.samples / stage.samples, self.progress.stage_s / (60 * stage.minutes))

    def note(self, parts: dict[str, float]) -> None:
        """Collect numbers until the next log line."""
        for name, value in parts.items():
            if np.isfinite(value):
                self._means.setdefault(name, []).append(value)

    def _log(self, stage: _VisionStage | _MainStage) -> None:
        p = self.progress
        means = " ".join(f"{name} {np.mean(values):.3f}" for name, values in self._means.items())
        rate = p.samples / max(p.stage_s, 1e-9)
        self.say(f"{p.stage} {p.stage_s / 60:.2f}/{stage.minutes:.1f} min step {p.step} samples {p.samples} ({rate:.1f}/s) {means}")
        self._loss = float(np.mean(self._means.get("answer", [float("nan")])))
        self._means.clear()

    def _curve(self) -> None:
        """A row of `curve.csv`: pair accuracies of the expected scores on development groups."""
        groups = development_groups(self.config.curve_groups, self.config.world_seed)
        table = pair_table(expected_scores(self.model, self.encoder, groups), groups)
        row = [f"{self.progress.total_s / 60:.2f}", str(self.progress.samples)]
        row += [f"{table[name].accuracy:.4f}" for name in CURVE_FIELDS[2:-1]] + [f"{self._loss:.4f}"]
        path = self.folder / "curve.csv"
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            if is_new:
                writer.writerow(CURVE_FIELDS)
            writer.writerow(row)
            handle.flush()
            os.fsync(handle.fileno())
        self.say("curve " + " ".join(f"{k} {v}" for k, v in zip(CURVE_FIELDS, row, strict=True)))


class _VisionStage:
    """What every cell and every picture holds, learned by the vision tower alone (facts: far ahead at equal samples)."""

    has_curve = False

    def __init__(self, run: Run) -> None:
        self.run = run
        config = run.config
        self.samples, self.minutes = config.vision_images, config.minutes * config.vision_share
        self.samples_per_step = config.vision_batch_size
        self.modules: list[tuple[str, nn.Module]] = [("model.visual", run.model.model.visual), ("heads", run.heads)]

    def producer(self, first: int) -> Producer:
        return Producer(self.run.config, self.run.tokenizer.to_str(), first, images_only=True)

    def step(self, batches: Iterator[Any], optimizers: Optimizers, used: float) -> None:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            features = vision_features(self.run.model.model.visual, patches(batch.pixels))
        losses = vision_loss(self.run.heads, features, batch.truth)
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizers.step(self.run.progress.step, used)
        self.run.note({"loss": float(losses.total.detach()), **losses.parts})


class _MainStage:
    """Everything at once."""

    has_curve = True

    def __init__(self, run: Run) -> None:
        self.run = run
        config = run.config
        self.samples, self.minutes = config.samples, config.minutes * (1 - config.vision_share)
        self.samples_per_step = config.batch_size
        self.modules = run.modules

    def producer(self, first: int) -> Producer:
        return Producer(self.run.config, self.run.tokenizer.to_str(), first)

    def step(self, batches: Iterator[Any], optimizers: Optimizers, used: float) -> None:
        batch = next(batches)
        run = self.run
        losses = batch_losses(run.model, run.heads, batch, run.config, run.encoder.first_score, run.config.sigma_at(used))
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizers.step(run.progress.step, used)
        run.note({"loss": float(losses.total.detach()), **losses.parts})


def _start_folder(folder: Path, config: NanoConfig) -> Tokenizer:
    """The run's tokenizer, which stays what it was when the world gets new words meanwhile; both records are written once."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tokenizer.json").exists():
        record = {"config": config.model_dump(), "digest": config.digest, "world_version": world_version()}
        for name, text in (
            ("config.json", json.dumps(record, indent=2) + "\n"),
            ("tokenizer.json", build_tokenizer(vocabulary()).to_str()),
        ):
            with atomic_write(folder / name) as file:
                file.write(text.encode())
    tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer


def development_groups(num: int, seed: int, split: Split = "dev") -> list[Group]:
    """`num` groups of four edits, the tasks in turn."""
    return [sample_group(split, index, seed=seed, task_type=TASKS[index % len(TASKS)]) for index in range(num)]
