"""`editscore pull prompts` and `--prompts published`, from a wheel of stand-in texts; pip looks for it in a folder, not on a network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from editscore import load
from editscore.cli import main
from editscore.cli.checkup import models
from editscore.judges import PointwiseJudge, pulled
from editscore.models.vlm import load_model
from editscore.types import EditSample, Image, Status

TESTS = Path(__file__).parents[1]
SHORT = {"max_reasoning_tokens": 8, "on_limit": "close"}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


STAND_INS = module(TESTS / "judges" / "published_wheel.py")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose texts count as the known ones, in the only place where pip looks; an empty cache."""
    STAND_INS.accept_stand_ins(monkeypatch, tmp_path / "cache")
    (tmp_path / "index").mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    path: Path = STAND_INS.write_wheel(tmp_path / "index" / "editscore-0.2-py3-none-any.whl")
    return path


@pytest.mark.parametrize("how", ["file", "pip"])
def test_what_was_pulled_is_printed_and_kept(wheel: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "prompts", *(["--wheel", str(wheel)] if how == "file" else [])]) == 0
    out, err = capsys.readouterr()
    assert "editscore-0.2-py3-none-any.whl, version 0.2" in out and "another build than the known file" in out
    for name, digest in pulled.HASHES.items():
        assert name in out and digest[:16] in out
    assert ("asking pip for editscore==0.2" in err) == (how == "pip")
    assert str(pulled.prompts_file()) in out
    assert json.loads(pulled.prompts_file().read_text("utf-8"))["texts"] == STAND_INS.TEXTS


def test_the_doctor_says_whether_they_are_there(wheel: Path) -> None:
    assert models()["published prompts"].endswith("type: editscore pull prompts")
    assert main(["pull", "prompts"]) == 0
    assert models()["published prompts"] == f"in {pulled.prompts_file()}"


def test_a_version_is_asked_for(wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    STAND_INS.write_wheel(wheel.with_name("editscore-0.1.9-py3-none-any.whl"), version="0.1.9")
    assert main(["pull", "prompts", "--version", "0.1.9"]) == 0
    assert "version 0.1.9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["--version", "7.7"], "editscore: version: pip could not download editscore==7.7:\n  ERROR: "),
        (["--version", "7.7"], "editscore pull prompts --wheel FILE"),
        (["--wheel", "gone.whl"], "editscore: wheel: gone.whl: No such file or directory"),
    ],
)
def test_what_cannot_be_had_is_2_and_writes_nothing(wheel: Path, tokens: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "prompts", *tokens]) == 2
    assert words in capsys.readouterr().err
    assert not pulled.prompts_file().exists()


def test_a_wrong_text_leaves_the_good_ones(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "prompts"]) == 0
    before = pulled.prompts_file().read_bytes()
    bad = STAND_INS.write_wheel(tmp_path / "bad.whl", STAND_INS.CONSTANTS.replace("grade", "mark"))
    assert main(["pull", "prompts", "--wheel", str(bad)]) == 2
    assert f"editscore: wheel: {pulled.TWO_IMAGES} has the SHA-256" in capsys.readouterr().err
    assert pulled.prompts_file().read_bytes() == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("published", "prompts: the published prompts are not on this machine yet; type: editscore pull prompts"),
        ("mine", "prompts: 'mine' is none of default, nano, published"),
    ],
)
def test_wrong_prompts_are_told_before_torch_loads(pairs: Path, name: str, words: str) -> None:
    tokens = ["score", "--input", "pairs.jsonl", "--output", "out.jsonl", "--prompts", name]
    script = f"import sys; from editscore.cli import main; code = main({tokens!r}); print('torch' in sys.modules, code)"
    environment = {"XDG_CACHE_HOME": str(pairs / "cache"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=pairs, env=environment)
    assert done.stdout.splitlines()[-1] == "False 2" and words in done.stderr, done.stderr
    assert not list(pairs.glob("out*"))


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    builder: Any = module(TESTS / "models" / "tiny_checkpoint.py")
    folder: Path = builder.write_checkpoint(tmp_path / request.param, request.param, max_position_embeddings=4096)
    (folder / "editscore.json").write_text(json.dumps(SHORT))
    return folder


def test_a_checkpoint_is_asked_as_its_family_was(
    wheel: Path, model: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", "prompts", "--wheel", str(wheel)]) == 0
    monkeypatch.chdir(pairs)
    one = ["score", "--source", "0.png", "--edited", "1.png", "--instruction", "make it red", "--model", str(model), "--passes", "1"]
    records = []
    for extra in ([], ["--prompts", "published"], ["--prompts", "published"]):
        capsys.readouterr()
        assert main([*one, *extra, "--json"]) == 0
        records.append(json.loads(capsys.readouterr().out))
    plain, published, again = records
    assert published == again and published["status"] == "ok"
    assert published["identity"]["prompts"] != plain["identity"]["prompts"]
    expected = PointwiseJudge.from_settings({**SHORT, "prompts": f"published-{model.name}"})
    assert published["identity"]["prompts"] == expected.prompts_digest

    # The limits of the pixels, told to the same checkpoint by its own file, make the same preprocessing.
    limits = {"qwen2_5_vl": (3136, 12_845_056), "qwen3_vl": (65_536, 16_777_216)}[model.name]
    config = json.loads((model / "preprocessor_config.json").read_text())
    (model / "preprocessor_config.json").write_text(json.dumps({**config, "min_pixels": limits[0], "max_pixels": limits[1]}))
    assert published["identity"]["preprocessing"] == load_model(model).identity.preprocessing != plain["identity"]["preprocessing"]


def test_the_checkpoints_own_pixels_go_first_and_python_selects_them_too(wheel: Path, model: Path) -> None:
    assert main(["pull", "prompts", "--wheel", str(wheel)]) == 0
    (model / "editscore.json").write_text(json.dumps({**SHORT, "prompts": "published", "pixels": {"max_pixels": 100_000}}))
    expected = load_model(model).identity.preprocessing
    tile = Image(28, 28, bytes(28 * 28 * 3))
    for settings in ({"prompts": "published"}, None):
        with load(model, judge_settings=settings, cache=None) as scorer:
            (score,) = scorer.score([EditSample(tile, tile, "make it red")], passes=1)
        assert score.status is Status.OK
        digest = PointwiseJudge.from_settings({**SHORT, "prompts": f"published-{model.name}"}).prompts_digest
        assert msgspec.structs.replace(score.identity, model="", numerics="") == msgspec.structs.replace(
            score.identity, model="", numerics="", prompts=digest, preprocessing=expected
        )
