"""Which backend runs an op: a table per op, chosen by asking, never a silent fallback.

An op's module holds `TABLE = OpTable(name, candidates)`; the candidates stand in the order in which `backend="auto"` asks them.
Each brings two questions and one answer:

- `unavailable() -> str | None`: why this machine or build cannot run it at all (`editscore doctor` prints this);
- `why_not(*args) -> str | None`: why it cannot run on these arguments;
- `run(*args)`.

`auto` takes the first candidate without a reason against it, and never one that is interpreted: somebody who set TRITON_INTERPRET for
other work wants the C++. A backend that was named and cannot run raises `BackendError` with
its reason.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

Backend = Literal["reference", "cpu", "triton", "cuda"]
BackendChoice = Literal["auto", "reference", "cpu", "triton", "cuda"]
_NAMES = ("auto", *get_args(Backend))
OPS = ("shared_prefix_attention", "append_kv", "sample_tokens", "gated_activation", "rms_norm", "rotary_embedding")

_requested: ContextVar[str] = ContextVar("editscore_backend", default="auto")  # per thread and per task


class BackendError(RuntimeError):
    """A backend was named that cannot run; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """One backend of one op."""

    backend: Backend
    unavailable: Callable[[], str | None]
    why_not: Callable[..., str | None]
    run: Callable[..., Any]
    is_interpreted: Callable[[], bool] = lambda: False

    def reason(self, *args: Any) -> str | None:
        """Why not on these arguments: first the machine is asked, then the arguments."""
        return self.unavailable() or self.why_not(*args)


@dataclass(frozen=True)
class OpTable:
    """The backends of one op in the order in which `auto` asks them."""

    op: str
    candidates: tuple[Candidate, ...]

    def choice(self, *args: Any) -> Backend:
        """The backend that `auto` takes for these arguments."""
        return choose(self, "auto", *args).backend


def check_backend(backend: str) -> str:
    """The name itself, or a ValueError that lists the names."""
    if backend not in _NAMES:
        raise ValueError(f"backend: {backend!r} is not one of {', '.join(_NAMES)}")
    return backend


@contextlib.contextmanager
def use_backend(backend: BackendChoice) -> Iterator[None]:
    """Inside the block `backend="auto"` means this one. Other threads and tasks do not see it; an explicit `backend=` wins over it."""
    token = _requested.set(check_backend(backend))
    try:
        yield
    finally:
        _requested.reset(token)


def choose(table: OpTable, backend: str, *args: Any) -> Candidate:
    """The candidate that runs these arguments, or a BackendError with the reasons."""
    wanted = check_backend(backend)
    if wanted == "auto":
        wanted = _requested.get()
    reasons = []
    for candidate in table.candidates:
        if wanted in ("auto", candidate.backend):
            reason = candidate.reason(*args)
            if reason is None and wanted == "auto" and candidate.is_interpreted():
                reason = "runs in an interpreter, so only where it is named"
            if reason is None:
                return candidate
            reasons.append(f"{candidate.backend}: {reason}")
    if wanted == "auto":
        raise BackendError(f"no backend can run {table.op}: {'; '.join(reasons)}")
    raise BackendError(f"{table.op} cannot run on backend {'; '.join(reasons) or repr(wanted)}")


def rows_why_not(x: Any, *rest: Any) -> str | None:
    """Why a reference in torch's own functions does not stand in for an op whose rows must not know each other; `x` is its first tensor."""
    return None if x.device.type == "cpu" else f"x is on {x.device}, where torch's own rows depend on their number"


def op_table(op: str) -> OpTable:
    """The table of an op named in `OPS`."""
    if op not in OPS:
        raise ValueError(f"op: {op!r} is not one of {', '.join(OPS)}")
    table: OpTable = importlib.import_module(f"editscore_kernels.{op}").TABLE
    return table


def explain(op: str) -> list[tuple[str, str]]:
    """(backend, "yes" or the reason why not) for every backend of an op, in the order in which `auto` asks them."""
    return [(candidate.backend, candidate.unavailable() or "yes") for candidate in op_table(op).candidates]
