"""The wheel in an empty environment: it installs with its declared dependencies only, and it scores."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCORE = """
import json, sys
import editscore
from editscore.world import sample_group

assert not editscore.__file__.startswith(sys.argv[1]), editscore.__file__
group = sample_group("report", 0)
sample = editscore.EditSample(group.source, group.edits[0].image, group.instruction)
with editscore.load("nano", cache=None) as scorer:
    (score,) = scorer.score([sample], passes=2)
print(json.dumps([score.status, score.overall, len(score.passes)]))
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_a_wheel_installs_into_an_empty_environment_and_scores(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    assert zipfile.is_zipfile(wheel)
    run(sys.executable, "-m", "venv", tmp_path / "empty", cwd=tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    installed = run(python, "-m", "pip", "list", "--format", "freeze", cwd=tmp_path).lower()
    assert "torchvision" not in installed
    status, overall, passes = json.loads(run(python, "-c", SCORE, ROOT, cwd=tmp_path))
    assert status == "ok"
    assert 0.0 <= overall <= 10.0
    assert passes == 2
    assert "usage" in run(tmp_path / "empty" / "bin" / "editscore", "--help", cwd=tmp_path).lower()
