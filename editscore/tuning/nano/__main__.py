"""`python -m editscore.tuning.nano`: train the embedded nano judge and put it into the package."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from editscore.types import InvalidInputError

app = App(name="editscore.tuning.nano", help="Train the embedded nano judge from scratch on EditWorld.")


@app.default
def main(
    *,
    output: Path | None = None,
    run: Path = Path("runs/nano"),
    minutes: float | None = None,
    samples: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    threads: int = 1,
) -> None:
    """Train, measure and write the judge.

    Parameters
    ----------
    output
        Folder of the finished judge; the package's own by default.
    run
        Folder of checkpoint, log and curve.
    minutes
        Wall time for both stages.
    samples
        Edits to train on, if that comes first.
    seed
        Of weights and batches.
    resume
        Go on from the checkpoint in `run`.
    threads
        Threads of torch. One is best beside a busy neighbour.
    """
    from editscore.tuning.nano.config import NanoConfig
    from editscore.tuning.nano.recipe import PACKAGE_FOLDER, train_nano

    given = {"minutes": minutes, "samples": samples, "seed": seed}
    config = NanoConfig(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    try:
        train_nano(config, run, output or PACKAGE_FOLDER, resume=resume, threads=threads)
    except InvalidInputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app()
