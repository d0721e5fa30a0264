"""`editscore doctor`: what is installed, what this machine has, which kernels run and why others do not, and whether it all works."""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated

from cyclopts import Parameter

from editscore.cli.exits import DONE, FAILED


def doctor(*, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Show versions, devices, op x backend x yes or why not, models found, and run a tiny self-test.

    Exit code 0 when the self-test passed, or had no model to run; 1 when it failed.

    Parameters
    ----------
    json
        Print the findings as JSON.
    """
    from editscore.cli.checkup import devices, kernels, models, self_test, versions

    findings = {"versions": versions(), "devices": devices(), "kernels": kernels(), "models": models()}
    passed, finding = self_test()
    findings["self-test"] = finding
    if json:
        sys.stdout.write(json_module.dumps({**findings, "passed": passed}, indent=2) + "\n")
    else:
        _print(findings)
    return FAILED if passed is False else DONE


def _print(findings: dict[str, dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for title, rows in findings.items():
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(name, Text(value, style="green" if value == "yes" else ""))
        console.print(Text(title.capitalize(), style="bold"))
        console.print(table)
