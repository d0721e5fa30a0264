"""The judge's settings as the pointwise judge reads them, and the vocabulary that it warns by."""

from editscore.judges import PointwiseConfig
from editscore.tuning.nano.config import IMAGE_SIZE
from editscore.tuning.nano.domain import instruction_words, local_edits
from editscore.tuning.nano.export import judge_config
from editscore.types import Sampling
from editscore.world import load_photos, plan_group, vocabulary, words_of


def test_instruction_words_cover_unseen_instructions_and_nothing_else():
    words = set(instruction_words())
    assert words < set(vocabulary())
    for split in ("dev", "report"):
        for index in range(1300):
            unknown = set(words_of(plan_group(split, index, num_edits=1).instruction)) - words
            assert not unknown, (split, index, unknown)
    assert not {"lost", "unchanged", "cat", "car"} & words


def test_the_pointwise_judge_takes_the_settings():
    settings = judge_config(-1.25, ("red", "circle"), Sampling(0.5, 0.9, 20))
    assert settings.pop("judge") == "pointwise" and settings.pop("pixels") == {"resize": [IMAGE_SIZE, IMAGE_SIZE]}
    config = PointwiseConfig.from_settings(settings)
    assert config.prompts == "nano" and config.score_range == 25 and config.on_limit == "close"
    assert config.domain.head == "in_domain" and config.domain.threshold == -1.25 and config.domain.vocabulary == ("red", "circle")
    assert config.sampling.temperature == 0.5
    assert config.max_reasoning_tokens >= 40


def test_local_edits_are_larger_pictures_under_local_instructions():
    photos = load_photos("report")
    if not photos:
        return
    edits = local_edits("report", 20, 0, photos)
    assert all(source.shape == edited.shape and source.shape[0] > IMAGE_SIZE for source, edited, _ in edits)
    assert not any("background" in text.split() and "white" not in text for _, _, text in edits)
