"""The dispatch law: a reason for every backend that cannot run, and never a silent fallback."""

import threading
from dataclasses import replace

import editscore_kernels
import pytest
import torch
from editscore_kernels import BackendError, _native, explain, sample_tokens, use_backend
from editscore_kernels._dispatch import Candidate, OpTable, choose


def table(*reasons: str | None) -> OpTable:
    names = ("cuda", "triton", "cpu", "reference")
    return OpTable(
        "op",
        tuple(
            Candidate(name, lambda: None, lambda *a, reason=reason: reason, lambda *a: a)
            for name, reason in zip(names, reasons, strict=True)
        ),
    )


def test_auto_takes_the_first_without_a_reason() -> None:
    assert choose(table("no", "no", None, None), "auto").backend == "cpu"
    assert choose(table(None, "no", None, None), "auto").backend == "cuda"
    with pytest.raises(BackendError, match=r"no backend can run op: cuda: a; triton: b; cpu: c; reference: d"):
        choose(table("a", "b", "c", "d"), "auto")


def test_a_named_backend_runs_or_raises_its_reason() -> None:
    assert choose(table(None, None, None, None), "triton").backend == "triton"
    with pytest.raises(BackendError, match="triton: no tensor cores"):
        choose(table(None, "no tensor cores", None, None), "triton")
    with pytest.raises(ValueError, match="backend: 'gpu' is not one of auto, reference, cpu, triton, cuda"):
        choose(table(None, None, None, None), "gpu")


def test_auto_leaves_an_interpreter_to_those_who_name_it() -> None:
    plain = table("no", None, "no", None)
    slow = OpTable("op", tuple(replace(c, is_interpreted=lambda: True) if c.backend == "triton" else c for c in plain.candidates))
    assert choose(plain, "auto").backend == "triton"
    assert choose(slow, "auto").backend == "reference"
    assert choose(slow, "triton").backend == "triton"
    with use_backend("triton"):
        assert choose(slow, "auto").backend == "triton"


def test_use_backend_holds_in_its_block_and_thread_only() -> None:
    both = table("no", "no", None, None)
    seen = []
    with use_backend("reference"):
        assert choose(both, "auto").backend == "reference"
        assert choose(both, "cpu").backend == "cpu", "an explicit name wins"
        with use_backend("cpu"):
            assert choose(both, "auto").backend == "cpu"
        thread = threading.Thread(target=lambda: seen.append(choose(both, "auto").backend))
        thread.start()
        thread.join()
        with pytest.raises(ZeroDivisionError), use_backend("cpu"):
            _ = 1 / 0
        assert choose(both, "auto").backend == "reference"
    assert seen == ["cpu"]
    assert choose(both, "auto").backend == "cpu"
    with pytest.raises(ValueError, match="backend"), use_backend("nothing"):
        pass


def test_explain_has_a_line_for_every_backend() -> None:
    for op in editscore_kernels.OPS:
        lines = dict(explain(op))
        absent = {"rms_norm": {"cuda"}, "rotary_embedding": {"cuda", "triton"}}.get(op, set())
        assert list(lines) == [backend for backend in ("cuda", "triton", "cpu", "reference") if backend not in absent]
        assert lines["reference"] == "yes"
        assert lines["cpu"] == "yes", "the compiled module belongs to every installation"
        assert all(lines.values())
    with pytest.raises(ValueError, match="op: 'attention' is not one of"):
        explain("attention")


def test_a_missing_module_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 0, "request": 0, "position": 0}
    expected = sample_tokens(torch.zeros(2, 5), **arguments)
    monkeypatch.setattr(_native, "_C", None)
    monkeypatch.setattr(_native, "_LOAD_ERROR", "No module named 'editscore_kernels._C'")
    assert "No module named" in dict(explain("sample_tokens"))["cpu"]
    assert "pip install" in _native.build_info()["unavailable"]
    with pytest.raises(BackendError, match="cpu: the compiled module is missing"):
        sample_tokens(torch.zeros(2, 5), **arguments, backend="cpu")
    assert torch.equal(sample_tokens(torch.zeros(2, 5), **arguments).token, expected.token)


def test_instruction_sets_can_be_named() -> None:
    assert _native.instruction_sets()[0] == "portable"
    assert "compiler" in _native.build_info()
    with pytest.raises(ValueError, match="instruction set: 'sse9'"), _native.use_instruction_set("sse9"):
        pass
