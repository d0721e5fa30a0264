"""`editscore pull`: what this package uses and does not hold."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from editscore.cli.exits import DONE
from editscore.judges import PUBLISHED_VERSION, prompts_file, read_wheel, save_prompts
from editscore.types import InvalidInputError

_PIP_LINES = 4

app = cyclopts.App(
    name="pull",
    help="Fetch what EditScore uses and does not hold: the published prompts.",
    help_format="plaintext",
    version_flags=[],
    help_epilogue="""Examples:
  editscore pull prompts
  editscore pull prompts --wheel editscore-0.2-py3-none-any.whl
  editscore score --prompts published --model MODEL --input pairs.jsonl ...""",
)


@app.command(version_flags=[])
def prompts(
    *,
    wheel: Path | None = None,
    version: Annotated[str, Parameter(help="Which version of that package pip is asked for; its texts must be the known ones.")] = (
        PUBLISHED_VERSION
    ),
) -> int:
    """Get the prompts that EditScore's own checkpoints were trained on, for --prompts published.

    They come out of the published wheel of the same name, which pip downloads and does not install. The wheel is read as data:
    nothing in it is run. Each text is checked against a known hash and kept in the cache folder.

    Parameters
    ----------
    wheel
        Read this file instead of asking pip, on a machine without a package index.
    """
    if wheel is not None:
        pulled = read_wheel(wheel)
    else:
        with tempfile.TemporaryDirectory(prefix="editscore-") as folder:
            pulled = read_wheel(_download(version, Path(folder)))
    save_prompts(pulled)
    print(f"{pulled.wheel}, version {pulled.version}")
    print(f"  SHA-256 {pulled.wheel_sha256} ({'the known file' if pulled.is_known_wheel else 'another build than the known file'})")
    print(f"{len(pulled.texts)} texts, read as data, with the SHA-256 that they must have:")
    for name, text, digest in pulled.rows():
        print(f"  {name:<36} {len(text):>4} characters, {digest[:16]}...")
    print(f"written to {prompts_file()}\nuse them with: editscore score --prompts published --model MODEL ...")
    return DONE


def _download(version: str, folder: Path) -> Path:
    """The wheel, fetched by pip of this Python: no dependencies, no source packages, nothing built, nothing installed."""
    requirement = f"editscore=={version}"
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    print(f"asking pip for {requirement} ...", file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "pip", "download", *options, "--", requirement], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("ERROR")] or lines[-_PIP_LINES:]
        raise InvalidInputError(
            "version" if version != PUBLISHED_VERSION else "wheel",
            f"pip could not download {requirement}:\n"
            + "\n".join(f"  {line}" for line in said or ["(it said nothing)"])
            + "\nElsewhere: pip download --no-deps editscore==0.2\nthen here: editscore pull prompts --wheel FILE",
        )
    return wheels[0]
