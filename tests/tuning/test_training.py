"""Losses, the schedule, checkpoints, and the whole recipe in little."""

import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from editscore.tuning.nano import training
from editscore.tuning.nano.checkpoint import FILE_NAME, Checkpoint
from editscore.tuning.nano.config import NanoArchitecture, NanoConfig
from editscore.tuning.nano.losses import answer_loss, soft_targets
from editscore.tuning.nano.optimizer import FINAL_SHARE, schedule
from editscore.tuning.nano.producer import Producer, make_source
from editscore.tuning.nano.training import Run
from editscore.tuning.nano.vocabulary import build_tokenizer
from editscore.types import InvalidInputError
from editscore.world import vocabulary

TINY = NanoConfig(
    architecture=NanoArchitecture(
        vision_hidden=32, vision_depth=1, vision_heads=2, vision_intermediate=32, hidden=64, layers=2, heads=2, kv_heads=1, intermediate=64
    ),
    compare_layer=1,
    minutes=60.0,
    samples=24,
    vision_images=16,
    batch_size=4,
    vision_batch_size=8,
    outside_per_batch=1,
    curve_groups=13,
    checkpoint_minutes=1e-9,
    curve_minutes=60.0,
)


def test_configurations_are_checked_and_hashed():
    with pytest.raises(ValueError, match="extra"):
        NanoConfig(learning_rat=1.0)
    with pytest.raises(ValueError, match="mrope_section"):
        NanoArchitecture(hidden=64, heads=4)
    assert NanoConfig(minutes=1.0).digest == NanoConfig(minutes=2.0).digest
    assert NanoConfig(learning_rate=1e-3).digest != NanoConfig().digest


def test_soft_targets_are_gaussians_that_sum_to_one():
    soft = soft_targets(1.5)
    assert torch.allclose(soft.sum(1), torch.ones(26), atol=1e-6)
    assert soft.argmax(1).tolist() == list(range(26))
    assert soft[10, 12] / soft[10, 10] == pytest.approx(np.exp(-4 / (2 * 1.5**2)), rel=1e-5)


def test_answer_loss_is_the_weighted_mean_by_hand():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 40, generator=generator)
    first, soft = 5, soft_targets(1.0)
    labels, weights = torch.tensor([2, first + 7, first + 7]), torch.tensor([1.0, 2.0, 1.0])
    log_p = logits.log_softmax(-1)
    # The middle one is a score; the last one is a number inside a reasoning, told apart by its weight.
    wanted = (-log_p[0, 2] - 2 * (soft[7] * log_p[1, first : first + 26]).sum() - log_p[2, first + 7]) / 4
    assert float(answer_loss(logits, labels, weights, soft, first, 2.0).total) == pytest.approx(float(wanted), rel=1e-5)


def test_the_schedule_warms_up_stays_and_falls():
    config = NanoConfig(warmup_steps=10, decay_share=0.5)
    assert schedule(0, 0.0, config) == pytest.approx(0.1)
    assert schedule(100, 0.2, config) == schedule(100, 0.45, config) == 1.0
    assert schedule(100, 0.75, config) == pytest.approx(0.5 + FINAL_SHARE)
    assert schedule(100, 1.0, config) == pytest.approx(FINAL_SHARE)


class InlineProducer:
    """The producer's batches without its process."""

    def __init__(self, config, tokenizer_json, first, *, images_only=False):
        source = make_source(config, tokenizer_json)
        self.batches = map(source.images if images_only else source.batch, itertools.count(first))

    def __enter__(self):
        return self.batches

    def __exit__(self, *error):
        return None


def test_the_process_draws_the_batches_in_order_and_ends():
    tokenizer_json = build_tokenizer(vocabulary()).to_str()
    source = make_source(TINY, tokenizer_json)
    producer = Producer(TINY, tokenizer_json, 5, images_only=True)
    with producer as batches:
        for number in (5, 6):
            assert np.array_equal(next(batches).pixels, source.images(number).pixels)
    assert not producer._process.is_alive()


def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Producer", InlineProducer)
    save = training.save_checkpoint
    broken = tmp_path / "broken"
    broken.mkdir()

    def save_and_keep(folder, config, progress, modules, optimizers):
        save(folder, config, progress, modules, optimizers)
        if progress.stage == "main" and progress.step == 3:
            shutil.copy(folder / FILE_NAME, broken / FILE_NAME)

    monkeypatch.setattr(training, "save_checkpoint", save_and_keep)
    whole = Run(TINY, tmp_path / "whole")
    whole.train()
    assert Checkpoint(broken, TINY).progress.step == 3
    with pytest.raises(InvalidInputError, match="--resume"):
        Run(TINY, broken)
    with pytest.raises(InvalidInputError, match="another configuration"):
        Run(TINY.model_copy(update={"learning_rate": 1e-3}), broken, resume=True)
    resumed = Run(TINY, broken, resume=True)
    resumed.train()
    assert resumed.progress.samples == whole.progress.samples == TINY.samples
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    rows = (tmp_path / "whole" / "curve.csv").read_text().splitlines()
    assert rows[0].split(",")[:2] == ["minutes", "samples"] and len(rows) == 2


@pytest.mark.slow
def test_the_recipe_writes_a_judge_that_transformers_loads(tmp_path, monkeypatch):
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    from editscore.tuning.nano import card, domain, recipe

    monkeypatch.setattr(card, "NUM_GROUPS", 13)
    monkeypatch.setattr(domain, "NUM_GROUPS", 13)
    config = TINY.model_copy(update={"samples": 400, "vision_images": 400, "batch_size": 8})
    figures = recipe.train_nano(config, tmp_path / "run", tmp_path / "judge")
    model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "judge", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert next(model.parameters()).dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(tmp_path / "judge").eos_token == "<|im_end|>"
    settings = json.loads((tmp_path / "judge" / "editscore.json").read_text())
    assert settings["prompts"] == "nano" and set(settings["domain"]["vocabulary"]) < set(vocabulary())
    assert settings["domain"]["threshold"] == pytest.approx(figures.threshold, abs=1e-4)
    heads = load_file(tmp_path / "judge" / "heads.safetensors")
    assert heads["in_domain.weight"].shape == (1, 64) and heads["in_domain.bias"].shape == (1,)
    text = (tmp_path / "judge" / "README.md").read_text()
    assert all(task in text for task in ("subject-add", "compose")) and "out_of_domain" in text
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "vision" in log and "main" in log
    assert 0 <= figures.accuracy["K=1"]["overall"] <= 1
