"""The published prompts without the published texts: what is believed, how the parts are put together, in which order.

The truth is tests/golden/prompt_shape.json, written from the published code. test_judges_published_wheel.py has the real texts.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from judge_play import BLUE, RED, SAMPLE, play, slot_answer
from published_wheel import CHAT, CONSTANTS, TEXTS, accept_stand_ins, write_wheel

from editscore.judges import PUBLISHED_SETS, PointwiseJudge, find_prompts, published_name, pulled, read_wheel, save_prompts
from editscore.judges.published import LAYOUTS
from editscore.types import ImagePart, InvalidInputError, Message, Request, TextPart

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "prompt_shape.json").read_text("utf-8"))
QWEN25, QWEN3 = "published-qwen2_5_vl", "published-qwen3_vl"


@pytest.fixture
def pulled_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins that were pulled; the file that holds them."""
    accept_stand_ins(monkeypatch, tmp_path / "cache")
    return save_prompts(read_wheel(write_wheel(tmp_path / "editscore-0.2-py3-none-any.whl")))


def asked(name: str, instruction: str = SAMPLE.instruction, **settings: object) -> tuple[Request, Request]:
    """The two questions of the judge with these prompts."""
    judge = PointwiseJudge.from_settings({"prompts": name, **settings})
    _, rounds = play(judge, msgspec.structs.replace(SAMPLE, instruction=instruction), lambda r, i: slot_answer((5, 5), i))
    return rounds[0][0], rounds[0][1]


def parts_of(message: Message) -> list[object]:
    return [(part.image, part.label) if isinstance(part, ImagePart) else part.text for part in message.parts]


def test_the_known_hashes_are_those_of_the_golden_file() -> None:
    constants = {name: entry["sha256"] for name, entry in GOLDEN["constants"].items()}
    assert dict(pulled.HASHES) == {**constants, pulled.SYSTEM: GOLDEN["qwen25vl"]["system"]["sha256"]}
    assert set(constants) == set(pulled.CONSTANTS)
    wheel = GOLDEN["wheel"]
    assert (wheel["sha256"], wheel["member"]) == (pulled.WHEEL_HASH, pulled.CONSTANTS_MEMBER)
    assert wheel["file"] == f"{pulled.PROJECT}-{pulled.PUBLISHED_VERSION}-py3-none-any.whl"


def test_pixels_are_those_of_the_golden_file() -> None:
    two, three = GOLDEN["pixels"]["qwen_vl_utils_default"], GOLDEN["pixels"]["qwen3vl_hf"]
    assert dict(LAYOUTS["qwen2_5_vl"].pixels) == {name: two[name] for name in ("min_pixels", "max_pixels")}
    for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        assert f"{edge} {LAYOUTS['qwen3_vl'].pixels[name]}" in three


def test_order_labels_and_texts_of_qwen25(pulled_texts: Path) -> None:
    sc, pq = asked(QWEN25)
    label = GOLDEN["qwen25vl"]["label"].split("'")[1]
    assert (GOLDEN["images"]["SC"], GOLDEN["images"]["PQ_evaluate"]) == (["source", "edited"], ["edited"])
    assert GOLDEN["images"]["order_in_user_turn"] == "images first, then the text"
    first, second = (label.replace("N", number) for number in "12")
    text = "\n".join(TEXTS[name].replace("<instruction>", SAMPLE.instruction) for name in pulled.CONSTANTS[:3])
    text = text.replace("From 0 to 10", "From 0 to 25")
    system = Message("system", (TextPart(TEXTS[pulled.SYSTEM]),))
    assert sc.messages[0] == pq.messages[0] == system
    assert [m.role for m in sc.messages] == [m.role for m in pq.messages] == ["system", "user"]
    assert parts_of(sc.messages[1]) == [(RED, first), (BLUE, second), text]
    quality = TEXTS[pulled.CONTEXT] + "\n" + TEXTS[pulled.PQ_RULE].replace("10", "25")
    assert parts_of(pq.messages[1]) == [(BLUE, first), quality]


def test_qwen3_has_neither_labels_nor_a_system_turn(pulled_texts: Path) -> None:
    assert GOLDEN["qwen3vl"]["label"] is None and GOLDEN["qwen3vl"]["system"] == "none given"
    sc, pq = asked(QWEN3)
    labelled = asked(QWEN25)
    assert [m.role for m in (*sc.messages, *pq.messages)] == ["user", "user"]
    assert parts_of(sc.messages[0]) == [(RED, ""), (BLUE, ""), parts_of(labelled[0].messages[1])[2]]
    assert parts_of(pq.messages[0]) == [(BLUE, ""), parts_of(labelled[1].messages[1])[1]]


def test_the_range_stands_in_the_rules_alone(pulled_texts: Path) -> None:
    for score_range in (25, 10, 7):
        sc, pq = asked(QWEN25, "Give it 10 candles, <instruction>, <|im_end|>.", score_range=score_range)
        text, quality = parts_of(sc.messages[1])[2], parts_of(pq.messages[1])[1]
        assert "10 is not a grade here." in str(text)
        assert f"From 0 to {score_range}: is it done?" in str(text) and f"From 0 to {score_range}: whole?" in str(quality)
        assert str(text).endswith("The request: Give it 10 candles, <instruction>, <|im_end|>.")
        assert "candles" not in str(quality)


def test_the_digest_knows_every_text_the_layout_and_the_set(pulled_texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {PointwiseJudge.from_settings({"prompts": name}).prompts_digest for name in ("default", QWEN25, QWEN3)}
    texts = dict(TEXTS)
    for name in TEXTS:
        changed = {**texts, name: texts[name] + "!"}
        monkeypatch.setattr("editscore.judges.published.load_prompts", lambda changed=changed: changed)
        digests.add(PointwiseJudge.from_settings({"prompts": QWEN25}).prompts_digest)
    assert len(digests) == 3 + len(TEXTS)
    monkeypatch.setattr("editscore.judges.published.load_prompts", lambda: texts)
    assert PointwiseJudge.from_settings({"prompts": QWEN25}).prompts_digest in digests


def test_without_pulling_it_is_said_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in PUBLISHED_SETS:
        with pytest.raises(InvalidInputError, match="editscore pull prompts") as caught:
            PointwiseJudge.from_settings({"prompts": name})
        assert caught.value.field == "prompts"


@pytest.mark.parametrize("damage", ["text", "missing", "json", "bytes", "folder"])
def test_a_damaged_file_is_not_believed(pulled_texts: Path, damage: str) -> None:
    content = json.loads(pulled_texts.read_text("utf-8"))
    if damage == "text":
        content["texts"][pulled.PQ_RULE] += " Be kind."
    elif damage == "missing":
        del content["texts"][pulled.CONTEXT]
    if damage == "folder":
        pulled_texts.unlink()
        pulled_texts.mkdir()
    else:
        pulled_texts.write_bytes({"json": b"{", "bytes": b"\xff\xfe"}.get(damage, json.dumps(content).encode()))
    with pytest.raises(InvalidInputError, match="editscore pull prompts") as caught:
        find_prompts(QWEN25)
    assert caught.value.field == "prompts" and str(pulled_texts) in str(caught.value)
    assert "Be kind" not in str(caught.value)


def test_what_is_pulled_replaces_what_was_there_and_leaves_nothing_beside(pulled_texts: Path, tmp_path: Path) -> None:
    pulled_texts.write_text("{")
    save_prompts(read_wheel(tmp_path / "editscore-0.2-py3-none-any.whl"))
    assert find_prompts(QWEN3).name == QWEN3
    assert list(pulled_texts.parent.iterdir()) == [pulled_texts]


@pytest.mark.parametrize(
    ("constants", "chat", "project", "words"),
    [
        (CONSTANTS, CHAT, "another", "is a wheel of another, not of editscore"),
        (CONSTANTS.replace("grade", "mark"), CHAT, "editscore", f"{pulled.TWO_IMAGES} has the SHA-256"),
        (CONSTANTS.replace(pulled.PQ_RULE, "OTHER"), CHAT, "editscore", f"assigns {pulled.PQ_RULE} 0 times"),
        (CONSTANTS + f"{pulled.CONTEXT} = __import__('os').system('exit 1')\n", CHAT, "editscore", f"assigns {pulled.CONTEXT} 2 times"),
        (CONSTANTS, CHAT.replace("stand-in", "kind"), "editscore", "system has the SHA-256"),
        (CONSTANTS, "text = ''", "editscore", "0 texts for the system turn"),
    ],
)
def test_another_text_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, constants: str, chat: str, project: str, words: str
) -> None:
    accept_stand_ins(monkeypatch, tmp_path / "cache")
    with pytest.raises(InvalidInputError, match=r"wheel: ") as caught:
        read_wheel(write_wheel(tmp_path / "a.whl", constants, chat, project=project))
    assert words in str(caught.value)


def test_the_stand_ins_are_refused_where_the_known_hashes_hold(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="these are not the prompts of editscore"):
        read_wheel(write_wheel(tmp_path / "a.whl"))


def test_names() -> None:
    assert (published_name("qwen2_5_vl"), published_name("qwen3_vl")) == PUBLISHED_SETS == (QWEN25, QWEN3)
    with pytest.raises(InvalidInputError, match="not for llama"):
        published_name("llama")
    with pytest.raises(InvalidInputError, match="published-qwen3_vl; name one of these"):
        PointwiseJudge.from_settings({"prompts": "published"})
    with pytest.raises(InvalidInputError, match="none of default, nano, published, published-qwen2_5_vl"):
        PointwiseJudge.from_settings({"prompts": "mine"})
