"""The recipe's fast forward pass against transformers' own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from editscore.tuning.nano.architecture import build_model
from editscore.tuning.nano.config import IMAGE_SIZE, MERGE_SIZE, PATCH_SIZE, NanoArchitecture
from editscore.tuning.nano.forward import embed, language_states, patches, row_mask, vision_features
from editscore.tuning.nano.sequences import DIRECT, Encoder, Weights, pack, rope_positions
from editscore.tuning.nano.vocabulary import build_tokenizer, token_ids

SHAPE = NanoArchitecture(
    vision_hidden=32, vision_depth=3, vision_heads=2, vision_intermediate=48, hidden=64, layers=2, heads=2, kv_heads=1, intermediate=96
)
INSTRUCTIONS = ("make the circle red", "remove the star, then paint the qqq blue")


@pytest.fixture(scope="module")
def encoder():
    words = ["make", "the", "circle", "red", "remove", "star", "paint", "blue", "quality", "now", "kept"]
    return Encoder(build_tokenizer(words), Weights(1.0, 2.0))


@pytest.fixture(scope="module")
def model(encoder):
    ids = token_ids(encoder.tokenizer)
    return build_model(SHAPE, ids, len(ids), seed=3).eval()


def random_images(num):
    return np.random.default_rng(5).integers(0, 256, (num, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)


def processor_patches(pixels):
    """What transformers' own image processor makes of the pictures."""
    from PIL import Image
    from transformers import Qwen2VLImageProcessorPil

    processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH_SIZE, merge_size=MERGE_SIZE, do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    out = processor([Image.fromarray(p) for p in pixels], return_tensors="pt")
    return out["pixel_values"], out["image_grid_thw"]


def test_patches_equal_the_image_processor():
    pixels = random_images(2)
    values, grid = processor_patches(pixels)
    ours = patches(pixels)
    doubled = ours.view(-1, 3, 1, PATCH_SIZE, PATCH_SIZE).expand(-1, -1, 2, -1, -1).reshape(len(values), -1)
    assert grid.tolist() == [[1, IMAGE_SIZE // PATCH_SIZE, IMAGE_SIZE // PATCH_SIZE]] * 2
    torch.testing.assert_close(doubled, values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_positions_equal_get_rope_index(model, encoder, instruction):
    prompt = encoder.sc_prompt(instruction)
    ids = torch.from_numpy(prompt)[None]
    grid = torch.tensor([[1, 6, 6]] * 2)
    kinds = (ids == encoder.image_pad).int()
    theirs, _ = model.model.get_rope_index(ids, kinds, grid)
    ours, place = rope_positions(prompt, encoder.image_pad)
    assert np.array_equal(ours, theirs[:, 0].numpy())
    assert place == ours.max() + 1


def reference_logits(model, encoder, ids, pixels):
    values, grid = processor_patches(pixels)
    rows = torch.from_numpy(np.asarray(ids))[None]
    positions, _ = model.model.get_rope_index(rows, (rows == encoder.image_pad).int(), grid)
    with torch.no_grad():
        return model(
            input_ids=rows, pixel_values=values, image_grid_thw=grid, position_ids=positions, attention_mask=torch.ones_like(rows)
        ).logits[0]


@pytest.mark.parametrize("row_length", [16, 160])
def test_packed_rows_equal_transformers(model, encoder, row_length):
    pixels = random_images(3)
    sequences = [
        encoder.answered(encoder.sc_prompt(INSTRUCTIONS[0]), "now red, kept", (25, 0)),
        encoder.answered(encoder.sc_prompt(INSTRUCTIONS[1]), "kept", (3, 17)),
        encoder.answered(encoder.pq_prompt(), "", (9, 10)),
        encoder.unanswered(encoder.pq_prompt()),
    ]
    images = [(0, 1), (2, 0), (1,), (2,)]
    rows = pack(sequences, images, encoder.image_pad, row_length)
    ids, positions, segment, document, feature = (
        torch.from_numpy(t) for t in (rows.ids, rows.positions, rows.segment, rows.document, rows.feature)
    )
    with torch.no_grad():
        x = embed(model.model.language_model, ids, feature, vision_features(model.model.visual, patches(pixels)))
        states, tapped = language_states(model.model.language_model, x, positions, row_mask(document, segment), tap=1)
        logits = F.linear(states, model.lm_head.weight).flatten(0, 1)
    assert tapped is not None
    for sequence, start, numbers in zip(sequences, rows.starts, images, strict=True):
        main = np.flatnonzero(sequence.segment != DIRECT)
        wanted = reference_logits(model, encoder, sequence.ids[main], pixels[list(numbers)])
        torch.testing.assert_close(logits[start : start + len(main)], wanted, atol=1e-4, rtol=0)
        direct = np.flatnonzero(sequence.segment == DIRECT)
        if len(direct):
            kept = np.concatenate([np.arange(sequence.prompt_length + 1), direct])
            wanted = reference_logits(model, encoder, sequence.ids[kept], pixels[list(numbers)])
            torch.testing.assert_close(logits[start + direct[0] : start + direct[-1] + 1], wanted[-len(direct) :], atol=1e-4, rtol=0)


def test_labels_point_at_the_next_token(encoder):
    sequence = encoder.answered(encoder.sc_prompt(INSTRUCTIONS[0]), "now red", (12, 7))
    prompt = encoder.sc_prompt(INSTRUCTIONS[0])
    text = encoder.tokenizer.decode(sequence.ids[len(prompt) : -3].tolist(), skip_special_tokens=False)
    assert text == '{"reasoning": "now red", "score": [12, 7]}<|im_end|>'
    main = sequence.segment != DIRECT
    labels, ids = sequence.labels[main], sequence.ids[main]
    assert np.array_equal(labels[len(prompt) : -1], ids[len(prompt) + 1 :])
    assert (labels[: len(prompt)] == -1).all() and labels[-1] == -1
    scores = encoder.first_score + np.array([12, 7])
    assert sequence.labels[-3:].tolist() == [scores[0], -1, scores[1]]
    assert sequence.labels[sequence.weights == 2.0].tolist() == [scores[0], scores[1], scores[0], scores[1]]


def test_an_unfollowed_answer_knows_its_phrase_and_one_score(encoder):
    prompt = encoder.sc_prompt(INSTRUCTIONS[0])
    sequence = encoder.unfollowed(prompt, "star kept")
    known = np.flatnonzero(sequence.labels != -1)
    zero = encoder.first_score
    assert sequence.labels[known].tolist() == [*encoder.text("star kept"), zero, zero]
    assert sequence.ids[known[:-1] + 1].tolist() == sequence.labels[known[:-1]].tolist()
    assert encoder.tokenizer.decode([int(sequence.ids[known[-2]])]) == '", "score": ['
    assert (sequence.weights > 0).tolist() == (sequence.labels != -1).tolist()
    assert sequence.weights[known[-2:]].tolist() == [2.0, 2.0]
