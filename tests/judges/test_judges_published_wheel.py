"""The real published texts against the hashes of tests/golden/prompt_shape.json, up to the whole text that a model reads.

Skipped where pip cannot fetch the published wheel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from editscore.judges import PointwiseJudge, PulledPrompts, pulled, read_wheel, save_prompts
from editscore.judges.published import published_set
from editscore.types import EditSample, Image, Message, TextPart

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "prompt_shape.json").read_text("utf-8"))
TILE = Image(28, 28, bytes(28 * 28 * 3))  # one token of the tiny model
SAMPLE = EditSample(TILE, TILE, "")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, f"editscore=={pulled.PUBLISHED_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = list(folder.glob("*.whl"))
    if not found:
        pytest.skip(f"pip cannot fetch it: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return found[0]


@pytest.fixture(scope="module")
def texts(wheel: Path) -> PulledPrompts:
    return read_wheel(wheel)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer of bytes and the turns of Qwen-VL: what it renders can be read back letter by letter."""
    spec = importlib.util.spec_from_file_location("tiny_checkpoint", ROOT / "tests" / "models" / "tiny_checkpoint.py")
    assert spec and spec.loader
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    from editscore.models.vlm import load_model

    return load_model(builder.write_checkpoint(tmp_path_factory.mktemp("model"), "qwen2_5_vl")).chat


def is_text(text: str, expected: dict[str, Any]) -> bool:
    return (hashlib.sha256(text.encode()).hexdigest(), len(text)) == (expected["sha256"], expected["characters"])


def as_read(chat: Any, messages: tuple[Message, ...], num_images: int) -> str:
    """What the model reads, one placeholder per image."""
    tokens = chat.render(messages, [(1, 1)] * num_images).tokens
    return str(chat.fast.backend_tokenizer.decode(tokens.tolist(), skip_special_tokens=False))


def last_text(messages: tuple[Message, ...]) -> str:
    part = messages[-1].parts[-1]
    assert isinstance(part, TextPart)
    return part.text


def test_the_file_is_the_known_one(texts: PulledPrompts) -> None:
    assert (texts.wheel, texts.version, texts.is_known_wheel) == (GOLDEN["wheel"]["file"], pulled.PUBLISHED_VERSION, True)
    assert not [name for name in sys.modules if name.endswith("vie_prompts")]
    for name, expected in GOLDEN["constants"].items():
        assert is_text(texts.texts[name], expected)


@pytest.mark.parametrize("composed", GOLDEN["composed"], ids=lambda composed: f"range {composed['score_range']}")
def test_both_questions_letter_by_letter(texts: PulledPrompts, chat: Any, composed: dict[str, Any]) -> None:
    score_range = composed["score_range"]
    labelled, plain = published_set("qwen2_5_vl", texts.texts), published_set("qwen3_vl", texts.texts)
    template = msgspec.structs.replace(SAMPLE, instruction="<instruction>")
    for prompts in (labelled, plain):
        assert is_text(last_text(prompts.sc(template, score_range)), composed["SC_template"])
        assert is_text(last_text(prompts.pq(template, score_range)), composed["PQ"])
    assert is_text(as_read(chat, labelled.pq(SAMPLE, score_range), 1), composed["PQ_chat_qwen25_one_image"])
    for case in composed["SC_with_instruction"]:
        sample = msgspec.structs.replace(SAMPLE, instruction=case["instruction"])
        assert is_text(last_text(plain.sc(sample, score_range)), case["text"])
        assert is_text(as_read(chat, labelled.sc(sample, score_range), 2), case["chat_qwen25_two_images"])


def test_no_line_of_the_published_texts_is_in_this_repository(texts: PulledPrompts) -> None:
    lines = {line.strip() for text in texts.texts.values() for line in text.splitlines() if len(line.strip()) > 24}
    assert len(lines) > 10
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        path = ROOT / name
        if path.is_file() and path.suffix in (".py", ".md", ".json", ".toml", ".txt", ".jinja"):
            content = path.read_text("utf-8", errors="replace")
            assert not [line for line in lines if line in content], name


def test_a_judge_asks_with_them(texts: PulledPrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    save_prompts(texts)
    run = PointwiseJudge.from_settings({"prompts": "published-qwen2_5_vl"}).run(
        msgspec.structs.replace(SAMPLE, instruction="make it red"), num_passes=4, seed=42
    )
    sc, pq = next(run)
    assert "make it red" in last_text(sc.messages) and (len(sc.images), len(pq.images)) == (2, 1)
    sampling = GOLDEN["sampling"]
    asked = (sc.sampling.temperature, sc.sampling.top_p, sc.sampling.top_k)
    assert asked == (sampling["temperature_default"], sampling["top_p"], sampling["top_k"])
