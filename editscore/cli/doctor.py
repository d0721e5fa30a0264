"""`editscore doctor`: what is installed, what this machine has, which kernels run and why others do not, and whether it all works.

With `--parity` it compares our engine with transformers on a checkpoint instead.
"""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from editscore.cli.exits import DONE, FAILED
from editscore.types import InvalidInputError


def doctor(
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    parity: str | None = None,
    adapter: str | None = None,
    device: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
) -> int:
    """Show versions, devices, op x backend x yes or why not, models found, and run a tiny self-test.

    Exit code 0 when the self-test passed, or had no model to run; 1 when it failed. With --parity: 1 when a prompt differs.

    Parameters
    ----------
    json
        Print the findings as JSON.
    parity
        Instead, compare our engine with transformers on this checkpoint (nano, a folder, or a hub id): logits and greedy tokens.
    adapter
        With --parity: a LoRA adapter, merged by PEFT on the other side.
    device
        With --parity: cpu (the default), cuda or cuda:1.
    dtype
        With --parity: float32 (the default; no logit may differ by more than 1e-4), bfloat16 or float16 (at most twice as far from
        transformers in float32 as transformers itself is).
    """
    if parity is not None:
        from editscore.cli.parity import show_parity

        return show_parity(parity, adapter=adapter, device=device or "cpu", dtype=dtype or "float32", as_json=json)
    for name, value in (("adapter", adapter), ("device", device), ("dtype", dtype)):
        if value is not None:
            raise InvalidInputError("usage", f"--{name} goes with --parity")
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
