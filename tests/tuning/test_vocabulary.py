"""The tokenizer: whole words, forced pieces, bytes; the template and the grammar see the tokens that training saw."""

import json

import llguidance
import llguidance.hf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from editscore.tuning.nano.config import TOKENS_PER_IMAGE
from editscore.tuning.nano.sequences import Encoder, Weights
from editscore.tuning.nano.vocabulary import CLOSE, COMMA, IMAGE_PAD, MIDDLE, OPEN, build_tokenizer, save_tokenizer, token_ids
from editscore.world import TASKS, plan_group, vocabulary


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(vocabulary())


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return Encoder(tokenizer, Weights(1.0, 2.0))


@pytest.fixture(scope="module")
def loaded(tokenizer, tmp_path_factory):
    """The saved files as transformers loads them beside a Qwen2.5-VL configuration."""
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    return AutoTokenizer.from_pretrained(folder)


def rendered(loaded, text, num_images):
    content = [{"type": "text", "text": text}, *[{"type": "image"}] * num_images]
    prompt = loaded.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
    return prompt.replace(IMAGE_PAD, IMAGE_PAD * TOKENS_PER_IMAGE)


@pytest.mark.parametrize("index", range(len(TASKS)))
def test_training_tokens_are_those_of_the_chat_template(loaded, encoder, index):
    group = plan_group("dev", index)
    ids = loaded(rendered(loaded, group.instruction, 2), add_special_tokens=False).input_ids
    assert ids == encoder.sc_prompt(group.instruction).tolist()
    assert loaded(rendered(loaded, "quality", 1)).input_ids == encoder.pq_prompt().tolist()
    for edit in group.edits:
        sequence = encoder.answered(encoder.sc_prompt(group.instruction), edit.verdict.sc_reason, (3, 25))
        answer = f'{{"reasoning": "{edit.verdict.sc_reason}", "score": [3, 25]}}<|im_end|>'
        assert ids + loaded(answer, add_special_tokens=False).input_ids == sequence.ids[:-3].tolist()


@pytest.mark.parametrize("split", ["train", "report"])
def test_every_word_of_the_world_is_one_token(encoder, split):
    known = {i for t, i in token_ids(encoder.tokenizer).items() if len(t) > 1} | set(encoder.text("," + ";"))
    letters = {i for t, i in token_ids(encoder.tokenizer).items() if t.lstrip("Ġ") in vocabulary()}
    for index in range(130):
        group = plan_group(split, index)
        for text in (group.instruction, *(r for e in group.edits for r in (e.verdict.sc_reason, e.verdict.pq_reason))):
            assert set(encoder.text(text)) <= known | letters, text


@given(st.text(max_size=60))
def test_any_text_comes_back(text):
    tokenizer = build_tokenizer(["red", "circle"])
    if "<|" not in text:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_scores_and_pieces_are_single_tokens(encoder):
    for token in (OPEN, MIDDLE, COMMA, CLOSE, *(str(score) for score in range(26))):
        assert len(encoder.text(token)) == 1
    assert [encoder.text(str(score))[0] for score in range(26)] == list(range(encoder.first_score, encoder.first_score + 26))


def test_llguidance_forces_the_training_tokens(loaded, encoder):
    scores = "|".join(f'"{score}"' for score in range(26))
    grammar = llguidance.LLMatcher.grammar_from_lark(
        f'start: "{{\\"reasoning\\": \\"" TEXT "\\", \\"score\\": [" SCORE ", " SCORE "]}}"\nTEXT: /[^"\\\\\\x00-\\x1f]*/\nSCORE: {scores}'
    )
    matcher = llguidance.LLMatcher(llguidance.hf.from_tokenizer(loaded), grammar)
    assert not matcher.is_error(), matcher.get_error()
    reason = "red circle turned blue; rest kept"
    tokens = [encoder.open, *encoder.text(reason), encoder.middle, encoder.first_score + 12, encoder.comma, encoder.first_score + 4]
    forced_at = {0, len(tokens) - 2}
    for place, token in enumerate(tokens):
        forced = matcher.compute_ff_tokens()
        assert forced == ([token] if place in forced_at else []), place
        assert matcher.consume_token(token), loaded.decode([token])
    assert matcher.compute_ff_tokens()[0] == encoder.close
