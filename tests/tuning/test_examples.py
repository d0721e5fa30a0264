"""Batches of the recipe: reproducible, and every label where it belongs."""

import numpy as np
import pytest

from editscore.tuning.nano.config import IMAGE_SIZE, TOKENS_PER_IMAGE, NanoConfig
from editscore.tuning.nano.examples import BatchSource, to_model_size
from editscore.tuning.nano.outside import local_edit, photo_crop
from editscore.tuning.nano.photographs import bare_photo_group, training_photos
from editscore.tuning.nano.sequences import Encoder, Weights
from editscore.tuning.nano.vocabulary import build_tokenizer
from editscore.world import edit_labels, load_photos, scene_labels, vocabulary

CONFIG = NanoConfig(batch_size=8, outside_per_batch=2, vision_batch_size=8, row_length=96)


@pytest.fixture(scope="module")
def encoder():
    return Encoder(build_tokenizer(vocabulary()), Weights(1.0, 2.0))


@pytest.fixture(scope="module")
def photos():
    found = training_photos()
    if not found:
        pytest.skip("scikit-image is not installed")
    return found


@pytest.fixture(scope="module")
def batch(encoder, photos):
    return BatchSource(CONFIG, encoder, photos).batch(3)


def flat(structure):
    for part in structure:
        if isinstance(part, np.ndarray):
            yield part
        else:
            yield from flat(part)


def test_a_batch_is_the_same_each_time_and_others_differ(encoder, photos, batch):
    source = BatchSource(CONFIG, encoder, photos)
    again, other = source.batch(3), source.batch(4)
    assert all(np.array_equal(a, b) for a, b in zip(flat(batch), flat(again), strict=True))
    assert not np.array_equal(batch.pixels[:4], other.pixels[:4])


def test_labels_stand_where_the_tokens_are(encoder, batch):
    ids, feature = batch.rows.ids.ravel(), batch.rows.feature.ravel()
    cells = np.arange(TOKENS_PER_IMAGE)
    for edited, at in zip(batch.edits.edited, batch.edits.edited_at, strict=True):
        assert feature[at : at + TOKENS_PER_IMAGE].tolist() == (edited * TOKENS_PER_IMAGE + cells).tolist()
    for source, at in zip(batch.edits.source, batch.edits.edited_at, strict=True):
        before = at - TOKENS_PER_IMAGE - 2
        assert feature[before : before + TOKENS_PER_IMAGE].tolist() == (source * TOKENS_PER_IMAGE + cells).tolist()
    assistant = encoder.prompt("", 0)[-1]
    assert (ids[batch.domain.at] == assistant).all()
    assert batch.domain.inside.tolist() == [1] * CONFIG.batch_size + [0] * CONFIG.outside_per_batch


def test_truth_is_the_worlds(encoder, photos, batch):
    groups = BatchSource(CONFIG, encoder, photos).groups
    group = groups.group(3 * CONFIG.batch_size // CONFIG.edits_per_group, CONFIG.edits_per_group)
    labels = edit_labels(group, group.edits[1])
    number = int(batch.edits.edited[1])
    assert np.array_equal(batch.pixels[number], to_model_size(group.edits[1].image))
    assert np.array_equal(batch.truth.cells[number], labels.image.cells)
    assert np.array_equal(batch.truth.cells[int(batch.edits.source[1])], scene_labels(group.scene).cells)
    assert np.array_equal(batch.edits.changed[1], labels.changed) and np.array_equal(batch.edits.target[1], labels.target)


def test_packing_keeps_every_token_once(batch):
    used = batch.rows.document >= 0
    assert used.sum() == sum((batch.rows.document == d).sum() for d in range(len(batch.rows.starts)))
    for document, start in enumerate(batch.rows.starts):
        span = np.flatnonzero(batch.rows.document.ravel() == document)
        assert span[0] == start and np.array_equal(span, np.arange(start, start + len(span)))


def test_vision_batches_hold_sources_and_edits(encoder, photos):
    images = BatchSource(CONFIG, encoder, photos).images(0)
    assert images.pixels.shape == (CONFIG.vision_batch_size, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert len(images.truth.cells) == len(images.truth.quality) == CONFIG.vision_batch_size


def test_without_photographs_batches_still_come(encoder):
    batch = BatchSource(CONFIG, encoder, ()).batch(0)
    assert batch.domain.inside.sum() == CONFIG.batch_size


def test_global_edits_of_photographs_have_no_objects_and_true_verdicts(photos):
    seen = 0
    for index in range(12):
        group = bare_photo_group("dev", index, seed=0, num_edits=2, size=84, photos=photos)
        if group is None:
            continue
        seen += 1
        assert not group.scene.objects and group.scene.background.kind == "photo"
        for edit in group.edits:
            assert not edit.scene.objects
            unchanged = np.array_equal(edit.image, group.source)
            if unchanged:
                assert edit.verdict.prompt_following == 0
            if edit.verdict.prompt_following == 25:
                assert not unchanged
            names = ("circle", "square", "triangle", "diamond", "ring", "cross", "star", "heart", "sign", "person")
            assert not any(name in edit.verdict.sc_reason.split() for name in names)
    assert seen >= 9


def test_local_edits_change_a_part_of_the_picture(photos):
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(40):
        source, other = photo_crop(rng, photos[0]), photo_crop(rng, photos[1])
        shares.append(float((np.abs(local_edit(rng, source, other).astype(int) - source) > 12).any(2).mean()))
    assert 0.02 < np.mean(shares) < 0.5 and max(shares) < 0.8
    assert 0 < sum(share == 0 for share in shares) < 20  # untouched ones are among them


def test_held_out_photographs_are_not_trained_on(photos):
    def signature(photo):
        return np.sort(photo.reshape(-1, 3).mean(0)).round(1).tolist()

    trained = [signature(photo) for photo in photos]
    assert all(signature(photo) not in trained for photo in load_photos("report"))


def test_instructions_about_what_is_not_there_are_not_followed(encoder, photos):
    from editscore.tuning.nano.outside import OutsideEdits

    groups = [BatchSource(CONFIG, encoder, ()).groups.group(index, 2) for index in range(26)]
    edits = [edit for number in range(12) for edit in OutsideEdits(CONFIG, photos).draw(number, groups)]
    absent = [edit for edit in edits if edit.phrase]
    assert 4 <= len(absent) < len(edits)
    scenes = {group.source.tobytes(): group for group in groups}
    for edit in absent:
        names = {thing.name for thing in scenes[edit.source.tobytes()].scene.objects}
        assert all(part.rsplit(" ", 1)[0].removesuffix(" not") not in names for part in edit.phrase.split(", "))
        assert edit.phrase.split()[-1] in ("unchanged", "extracted")
