"""The command with a real model: the embedded judge where its weights are, else a tiny Qwen2.5-VL with random weights."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from editscore.cli import main
from editscore.models.vlm import resolve
from editscore.types import InvalidInputError

TINY = Path(__file__).parents[1] / "models" / "tiny_checkpoint.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        if any(resolve("nano").glob("*.safetensors")):
            return "nano"
    except InvalidInputError:
        pass  # this checkout has no weights yet
    spec = importlib.util.spec_from_file_location("tiny_checkpoint", TINY)
    assert spec and spec.loader
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    folder = builder.write_checkpoint(tmp_path_factory.mktemp("models") / "tiny", "qwen2_5_vl")
    (folder / "editscore.json").write_text(json.dumps({"prompts": "nano", "max_reasoning_tokens": 6, "on_limit": "close"}))
    return str(folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_of_edits(tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "groups"
    assert main(["world", "make", "--num", "2", "--edits", "2", "--output", str(folder)]) == 0
    with (folder / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"id": "gone", "source": "gone.png", "edited": "gone.png", "instruction": "make it red"}) + "\n")
    run = ["score", "--input", str(folder), "--model", model, "--passes", "2", "--output"]
    assert main([*run, str(tmp_path / "a.jsonl"), "--report", str(tmp_path / "page.html")]) == 1
    rows = read(tmp_path / "a.jsonl")
    assert [row["status"] for row in rows] == ["ok"] * 4 + ["invalid_input"]
    assert rows[4]["message"].startswith("manifest.jsonl:5: source: ") and rows[4]["overall"] is None
    for row in rows[:4]:
        assert 0 <= row["overall"] <= 10 and len(row["passes"]) == 2 and len(row["identity"]["model"]) == 64
    assert (tmp_path / "page.html").read_text().count("<article") == 5
    assert main([*run, str(tmp_path / "b.jsonl"), "--no-cache"]) == 1
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    one = folder / rows[0]["source"], folder / rows[0]["edited"]
    capsys.readouterr()
    words = ["--instruction", rows[0]["instruction"], "--model", model, "--passes", "2", "--json"]
    assert main(["score", "--source", str(one[0]), "--edited", str(one[1]), *words]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert {**alone, "id": ""} == {**{name: rows[0][name] for name in alone}, "id": ""}  # alone or in a batch: the same record


@pytest.mark.parametrize(
    ("option", "value"), [("--model", "no-such-model"), ("--device", "abacus"), ("--judge", "nobody"), ("--adapter", "no-such-adapter")]
)
def test_a_wrong_option_is_named(option: str, value: str, pairs: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"--model": model, option: value}
    run = ["score", "--input", str(pairs / "pairs.jsonl"), "--output", str(pairs / "out.jsonl")]
    assert main([*run, *(token for pair in options.items() for token in pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("editscore: ") and value in error and "Traceback" not in error
    if option != "--adapter":  # an adapter is looked for where models are
        assert error.startswith(f"editscore: {option.strip('-')}: ")
    assert not list(pairs.glob("out*"))


def test_an_adapter_alone_names_the_model_it_looked_for(tmp_path: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"], "base_model_name_or_path": "no-such-base"}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    run = ["score", "--input", str(pairs / "pairs.jsonl"), "--output", str(pairs / "out.jsonl")]
    assert main([*run, "--adapter", str(tmp_path / "adapter")]) == 2
    assert "editscore: model: no model 'no-such-base'" in capsys.readouterr().err


def test_the_doctor_finds_things(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert findings["passed"] in (True, None) and findings["versions"]["torch"] and findings["devices"]["cpu"]
    assert findings["kernels"]["sample_tokens / reference"] == "yes"
    assert all(reason for reason in findings["kernels"].values())
    assert main(["doctor"]) == 0 and "Self-test" in capsys.readouterr().out
    assert "torchvision" not in sys.modules
