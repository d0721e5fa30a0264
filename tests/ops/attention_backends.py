"""The backends of the attention ops that run here, each instruction set of the C++ as one of its own, and why the others do not."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from attention_cases import Case
from editscore_kernels import explain, instruction_sets, use_instruction_set
from editscore_kernels.shared_prefix_attention import Attended, shared_prefix_attention


@dataclass(frozen=True)
class Backend:
    """A backend by name, with the layout that it is tested in, on one instruction set where it has several."""

    name: str
    layout: str
    instruction_set: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.name, self.instruction_set)))

    def environment(self) -> contextlib.AbstractContextManager[None]:
        """Inside it the backend runs on its instruction set."""
        return use_instruction_set(self.instruction_set) if self.instruction_set else contextlib.nullcontext()


def _backends() -> list[Backend]:
    found = [Backend("reference", "plain")]
    if dict(explain("shared_prefix_attention"))["cpu"] == "yes":
        found += [Backend("cpu", "packed", name) for name in instruction_sets()]
    return found


BACKENDS = _backends()


def run(backend: Backend | str, case: Case, *, layout: str | None = None, num_splits: int = 0) -> Attended:
    """The op on a case."""
    chosen = backend if isinstance(backend, Backend) else Backend(backend, "plain")
    layout = layout or chosen.layout
    with chosen.environment():
        return shared_prefix_attention(
            case.q,
            *case.pages(layout),
            case.tables,
            scale=case.scale,
            layout=layout,  # type: ignore[arg-type]
            num_splits=num_splits,
            backend=chosen.name,  # type: ignore[arg-type]
        )
