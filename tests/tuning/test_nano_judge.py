"""The judge in the package, through the scorer that people use."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer

import editscore
from editscore.models.vlm import resolve
from editscore.stats import count_pairs, group_pairs
from editscore.tuning.nano.domain import local_edits
from editscore.tuning.nano.evaluation import sampled_scores, true_scores
from editscore.tuning.nano.sequences import Encoder, Weights
from editscore.types import EditSample, Image, Sampling
from editscore.world import TASKS, load_photos, sample_group

FOLDER = resolve("nano")


@pytest.fixture(scope="module")
def groups():
    return [sample_group("dev", 500 + index, task_type=task) for index, task in enumerate(TASKS)]


@pytest.fixture(scope="module")
def scorer():
    with editscore.load("nano", cache=None) as loaded:
        yield loaded


def record(pixels):
    return Image(pixels.shape[1], pixels.shape[0], np.ascontiguousarray(pixels).tobytes())


def samples_of(groups):
    return [EditSample(record(g.source), record(e.image), g.instruction, id=e.id) for g in groups for e in g.edits]


@pytest.fixture(scope="module")
def scores(scorer, groups):
    return scorer.score(samples_of(groups), passes=4)


def test_the_files_are_all_there_and_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "editscore.json", "heads.safetensors", "README.md"} <= names
    assert (FOLDER / "model.safetensors").stat().st_size <= 10_000_000
    assert "EditWorld" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_it_ranks_unseen_edits(scores, groups):
    owner = np.repeat(np.arange(len(groups)), 4)
    assert all(score.status == "ok" for score in scores)
    truth = np.array([edit.verdict.overall for group in groups for edit in group.edits])
    given = np.array([score.overall for score in scores])
    pairs = group_pairs(truth, owner, 1.0)
    assert count_pairs(given[pairs.better], given[pairs.worse]).accuracy > 0.75
    assert np.corrcoef(true_scores(groups)[:, 0], [score.prompt_following for score in scores])[0, 1] > 0.6


def test_it_reasons_in_the_worlds_words(scores, groups):
    reasons = [score.passes[0].sc_reasoning for score in scores]
    truth = [edit.verdict.sc_reason for group in groups for edit in group.edits]
    hits = sum(reason == true for reason, true in zip(reasons, truth, strict=True))
    assert hits > len(truth) / 4
    assert all("; " in reason for reason in reasons)


def test_warnings_for_what_is_outside_its_world(scorer, scores, groups):
    warned = [score for score in scores if "out_of_domain" in score.warnings]
    assert len(warned) <= len(scores) * 0.06
    first = samples_of(groups[:1])[0]
    (strange,) = scorer.score([EditSample(first.source, first.edited, "make the car red", id="car")], passes=1)
    assert "out_of_domain" in strange.warnings
    photos = load_photos("report")
    if photos:
        edits = [EditSample(record(a), record(b), text, id=str(k)) for k, (a, b, text) in enumerate(local_edits("dev", 12, 1, photos))]
        assert sum("out_of_domain" in score.warnings for score in scorer.score(edits, passes=1)) >= 11


def test_the_engine_gives_the_training_codes_greedy_scores(groups):
    from editscore.models.vlm import load_model

    encoder = Encoder(Tokenizer.from_file(str(FOLDER / "tokenizer.json")), Weights(1.0, 2.0))
    chosen = groups[:6]
    settings = {"sampling": {"temperature": 0.0}}
    with editscore.load("nano", cache=None, judge_settings=settings) as greedy:
        given = [(*s.passes[0].sc_raw, *s.passes[0].pq_raw) for s in greedy.score(samples_of(chosen), passes=1)]
    network = load_model("nano", packed=False).network
    ours = sampled_scores(network, encoder, chosen, 1, Sampling(temperature=0.0), seed=0)[:, 0]
    assert np.array_equal(ours, np.array(given))


def test_settings_beside_the_weights_are_those_of_the_recipe():
    from editscore.tuning.nano.recipe import SAMPLING

    settings = json.loads((FOLDER / "editscore.json").read_text(encoding="utf-8"))
    assert settings["sampling"] == {"temperature": SAMPLING.temperature, "top_p": SAMPLING.top_p, "top_k": SAMPLING.top_k}
    assert settings["pixels"] == {"resize": [84, 84]}
