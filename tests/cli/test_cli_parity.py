"""`editscore doctor --parity`: it passes where both sides have the same checkpoint, and fails for every difference put between them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

import editscore.scoring.parity as parity
import editscore.scoring.peer as peer_module
from editscore.cli import main
from editscore.models.vlm import VisionLanguageModel, load_model
from editscore.scoring.peer import Peer

TARGETS = ["q_proj", "v_proj", "down_proj"]
TEXT_LAYER = "model.language_model.layers.1.mlp.down_proj.weight"


def tiny_checkpoint() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_checkpoint", Path(__file__).parents[1] / "models" / "tiny_checkpoint.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path: Path = tiny_checkpoint().write_checkpoint(tmp_path_factory.mktemp("models") / request.param, request.param)
    return path


@pytest.fixture(scope="module")
def qwen25(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One family, for what does not depend on it."""
    torch.set_num_threads(1)
    path: Path = tiny_checkpoint().write_checkpoint(tmp_path_factory.mktemp("models") / "one", "qwen2_5_vl")
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """The exit code and the report of one comparison."""

    def call(model: Path | str, *options: str) -> tuple[int, dict[str, Any]]:
        code = main(["doctor", "--parity", str(model), "--json", *options])
        return code, json.loads(capsys.readouterr().out)["parity"]

    return call


Run = Callable[..., tuple[int, dict[str, Any]]]


def write_adapter(base: Path, folder: Path) -> Path:
    """An adapter with random tensors, written by PEFT itself; its targets match layers of the vision tower, too."""
    model = load_model(base)
    network = type(model.network).from_pretrained(base)
    adapted = get_peft_model(network, LoraConfig(r=4, lora_alpha=16, target_modules=TARGETS))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapted.save_pretrained(folder)
    return folder


def between(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Changes the network on the side of transformers after it was loaded."""

    class Changed(Peer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            with torch.no_grad():
                change(self.network)

    monkeypatch.setattr(parity, "Peer", Changed)


def test_both_families_pass(folder: Path, run: Run) -> None:
    code, report = run(folder)
    assert code == 0 and report["passed"] and report["adapter"] == ""
    rows = report["comparisons"]
    assert [row["prompt"] for row in rows] == ["text alone", "224x168", "61x150", "140x140 and 140x140", "252x90 and 33x47"]
    for row in rows:
        assert 0 < row["difference"] <= row["limit"] == 1e-4 and row["largest_logit"] > 0.5
        assert row["num_same_tokens"] == row["num_tokens"] > 0 and row["num_prompt_tokens"] > 10


@pytest.mark.parametrize("names", ["new", "old"])
def test_an_adapter_is_merged_on_both_sides(folder: Path, tmp_path: Path, run: Run, names: str) -> None:
    adapter = write_adapter(folder, tmp_path / "adapter")
    if names == "old":
        path = adapter / "adapter_model.safetensors"
        save_file({key.replace("model.language_model.layers.", "model.layers."): value for key, value in load_file(path).items()}, path)
    plain, (code, report) = run(folder)[1], run(folder, "--adapter", str(adapter))
    assert code == 0 and report["passed"] and len(report["adapter"]) == 64
    assert report["model"] == plain["model"]
    assert [row["largest_logit"] for row in report["comparisons"]] != [row["largest_logit"] for row in plain["comparisons"]]
    (adapter / "adapter_config.json").write_text(
        json.dumps({**json.loads((adapter / "adapter_config.json").read_text()), "base_model_name_or_path": str(folder)})
    )
    assert run(adapter)[1]["comparisons"] == report["comparisons"]  # an adapter's folder brings its base along


def test_an_adapter_on_one_side_only_fails(qwen25: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = write_adapter(qwen25, tmp_path / "adapter")
    monkeypatch.setattr(peer_module, "merged_by_peft", lambda network, folder: network)
    code, report = run(qwen25, "--adapter", str(adapter))
    assert code == 1 and not any(row["passed"] for row in report["comparisons"])


def test_a_perturbed_weight_fails(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    between(monkeypatch, lambda network: network.get_parameter(TEXT_LAYER).mul_(1.02))
    code, report = run(folder)
    assert code == 1 and not report["passed"]
    assert all(row["difference"] > row["limit"] and not row["passed"] for row in report["comparisons"])
    assert main(["doctor", "--parity", str(folder)]) == 1
    out = capsys.readouterr().out
    assert out.count("FAILED") == 6 and "FAILED: 5 of 5 prompts" in out


def test_one_entry_of_one_weight_is_enough(qwen25: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    between(monkeypatch, lambda network: network.get_parameter(TEXT_LAYER)[3, 5].add_(0.1))
    assert run(qwen25)[0] == 1


def test_a_fault_of_the_vision_tower_shows_where_there_are_images(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    between(monkeypatch, lambda network: network.model.visual.patch_embed.proj.weight.mul_(1.05))
    code, report = run(folder)
    assert code == 1 and [row["passed"] for row in report["comparisons"]] == [True] + [False] * 4


def test_no_number_is_no_parity(qwen25: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    between(monkeypatch, lambda network: network.get_parameter(TEXT_LAYER).fill_(float("nan")))
    code, report = run(qwen25)
    assert code == 1 and [row["difference"] for row in report["comparisons"]] == [None] * 5


def test_other_greedy_tokens_fail_though_the_logits_agree(qwen25: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = Peer.greedy
    monkeypatch.setattr(Peer, "greedy", lambda self, *arguments: [*greedy(self, *arguments)[:4], 0])
    code, report = run(qwen25)
    assert code == 1
    for row in report["comparisons"]:
        assert row["difference"] <= row["limit"] and row["num_same_tokens"] == 4
        assert row["problem"].startswith("greedy tokens part at token 5, where the two best logits are ")


def test_another_reading_of_the_prompt_fails(qwen25: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "_tokenize", lambda self, messages, plain=Peer._tokenize: [5, *plain(self, messages)])
    code, report = run(qwen25)
    assert code == 1 and all("reads the prompt as" in row["problem"] for row in report["comparisons"])


def test_an_engine_that_minds_company_fails(qwen25: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = VisionLanguageModel.logits

    def minding(self: VisionLanguageModel, hidden: Tensor, **how: Any) -> Tensor:
        return logits(self, hidden, **how) * (1 if len(hidden) == 1 else -1)

    monkeypatch.setattr(VisionLanguageModel, "logits", minding)
    code, report = run(qwen25)
    assert code == 1 and all("runs all prompts together" in row["problem"] for row in report["comparisons"])


def test_logits_that_are_all_alike_prove_nothing(tmp_path: Path, run: Run) -> None:
    folder: Path = tiny_checkpoint().write_checkpoint(tmp_path / "model", "qwen2_5_vl")
    path = folder / "model.safetensors"
    save_file({key: value * (key != "lm_head.weight") for key, value in load_file(path).items()}, path, {"format": "pt"})
    code, report = run(folder)
    assert code == 1 and all("prove" in row["problem"] for row in report["comparisons"])


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_lower_precision_is_measured_by_transformers_own_error(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    code, report = run(folder, "--dtype", dtype)
    assert code == 0 and report["dtype"] == dtype
    assert all(1e-4 < row["difference"] <= row["limit"] < 0.5 for row in report["comparisons"])
    between(monkeypatch, lambda network: network.get_parameter(TEXT_LAYER).mul_(1.5))
    assert run(folder, "--dtype", dtype)[0] == 1


@pytest.mark.parametrize("pixels", [{"resize": [56, 84]}, {"max_pixels": 6000}])
def test_pixels_of_the_checkpoints_own_file_hold_for_both(tmp_path: Path, run: Run, pixels: dict[str, Any]) -> None:
    folder: Path = tiny_checkpoint().write_checkpoint(tmp_path / "model", "qwen2_5_vl")
    before = run(folder)[1]
    (folder / "editscore.json").write_text(json.dumps({"pixels": pixels}))
    code, report = run(folder)
    assert code == 0
    assert report["comparisons"][1]["num_prompt_tokens"] != before["comparisons"][1]["num_prompt_tokens"]


def test_the_table_reads_well(qwen25: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--parity", str(qwen25)]) == 0
    out, err = capsys.readouterr()
    assert "float32 on cpu" in out and out.count(" ok") == 5 and "252x90 and 33x47" in out
    assert "passed: no logit differs by more than" in out.replace("\n", " ")
    assert "running transformers in float32 ..." in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parity", "no-such-model"], "editscore: model: no model 'no-such-model'"),
        (["--parity", "{model}", "--adapter", "no-such"], "editscore: adapter: no model 'no-such'"),
        (["--parity", "{model}", "--adapter", "{model}"], "editscore: adapter: "),
        (["--parity", "{model}", "--device", "abacus"], "editscore: device: "),
        (["--parity", "{empty}"], "editscore: model: "),
        (["--adapter", "a"], "editscore: usage: --adapter goes with --parity"),
        (["--dtype", "bfloat16"], "editscore: usage: --dtype goes with --parity"),
    ],
)
def test_bad_input_is_2_and_named(qwen25: Path, tmp_path: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *(option.format(model=qwen25, empty=tmp_path) for option in options)]) == 2
    out, err = capsys.readouterr()
    assert words in err and "Traceback" not in err and not out


def test_without_peft_it_is_said_what_to_type(
    qwen25: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = write_adapter(qwen25, tmp_path / "adapter")
    monkeypatch.setitem(sys.modules, "peft", None)
    assert main(["doctor", "--parity", str(qwen25), "--adapter", str(adapter)]) == 2
    assert "editscore: adapter: the comparison with an adapter needs PEFT: pip install peft" in capsys.readouterr().err


def test_a_checkpoint_that_transformers_cannot_preprocess_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder: Path = tiny_checkpoint().write_checkpoint(tmp_path / "model", "qwen2_5_vl")
    (folder / "preprocessor_config.json").unlink()
    assert main(["doctor", "--parity", str(folder)]) == 2
    assert "editscore: model: " in (error := capsys.readouterr().err) and "preprocessor_config.json" in error
