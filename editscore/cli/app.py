"""The command line's frame: commands by name, plain errors, exit codes.

Exit codes: 0 done; 1 a sample failed, or a self-test did; 2 bad usage or input that cannot be read as a whole; 130 interrupted.
Commands are named by import path and load on use, so that `editscore --help` stays under 0.3 s.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import cyclopts

from editscore.cli.exits import BAD_USAGE, DONE, INTERRUPTED, PIPE_CLOSED


def version() -> str:
    """The version of the installed package."""
    import importlib.metadata

    try:
        return importlib.metadata.version("editscore")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return "0+checkout"


app = cyclopts.App(
    name="editscore",
    help="Scores instruction-guided image edits with a vision-language model.",
    version=lambda: f"editscore {version()}",
    help_epilogue="Each command explains itself: editscore score --help",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command(
    "editscore.cli.score:score",
    name="score",
    help="Score one edit, or all edits of a manifest.",
    help_epilogue="""Examples:
  editscore score --source a.png --edited b.png --instruction "make the car red"
  editscore score --input pairs.jsonl --output scores.jsonl --report page.html

Scores are on 0 to 10, higher is better. Exit code 0: all scored; 1: a sample failed; 2: bad usage.""",
)
app.command("editscore.cli.world:app", name="world", help="EditWorld: edits whose truth is known.")
app.command("editscore.cli.pull:app", name="pull", help="Fetch what is not part of this package: the published prompts.")
app.command("editscore.cli.doctor:doctor", name="doctor", help="Versions, devices, kernels, models, and a tiny self-test.")


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command (of `sys.argv` by default) and return its exit code; errors are plain lines on stderr."""
    # Before torch starts its threads: threads that spin while they wait made a run 15 times slower beside a busy neighbour
    # (126 s against 8 s for the demo's 38 edits, two cores at load 6), and threads that sleep at once make small kernels half as fast
    # (attention of one prompt on two threads: 121 us, with 50 us of spinning 69). So they spin a little, then sleep.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="5000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" and the command goes on
    try:
        result = app(tokens, print_error=False, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        command = " ".join(["editscore", *(error.command_chain or ())])
        return _complain(f"{str(error).rstrip()}\nTry: {command} --help")
    except ValueError as error:
        from editscore.types import InvalidInputError

        if not isinstance(error, InvalidInputError):
            raise
        return _complain(str(error))
    except KeyboardInterrupt:
        print("editscore: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `editscore ... | head` closed our output; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return result if isinstance(result, int) else DONE


def _complain(message: str) -> int:
    print(f"editscore: {message}", file=sys.stderr)
    return BAD_USAGE
