"""The walls of the house: sizes, names, and who may know what. docs/architecture.md shows the plan."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OPS = ("shared_prefix_attention", "append_kv", "sample_tokens", "gated_activation")
CPU_OPS = ("rms_norm", "rotary_embedding")  # without a CUDA kernel: Triton or torch does it there
LIGHT = ("types", "data", "stats", "report", "world", "judges", "cli")


def tracked(*suffixes: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = (ROOT / name for name in listing.splitlines())
    return [path for path in paths if path.suffix in suffixes and path.is_file()]


PYTHON = tracked(".py")
SOURCES = tracked(".py", ".cpp", ".h", ".cu", ".cuh")
CSRC = [path for path in SOURCES if path.is_relative_to(ROOT / "csrc")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_measure() -> None:
    assert len(PYTHON) > 20
    assert CSRC


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_are_at_most_300_lines(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 300


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_functions_are_at_most_50_lines(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno and node.end_lineno - node.lineno + 1 > 50
    ]
    assert not long


def test_names_say_something() -> None:
    empty = [name(path) for path in PYTHON if path.stem in ("utils", "helpers", "common", "misc")]
    assert not empty
    assert not (ROOT / "kernels" / "__init__.py").exists(), "it would shadow another library called `kernels`"


def test_csrc_knows_neither_torch_nor_python_outside_the_bindings() -> None:
    for path in CSRC:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'#include\s*[<"](torch|ATen|c10)/', text), name(path)
        if "bindings" not in path.parts:
            assert not re.search(r"pybind11|Python\.h", text), name(path)


FORBIDDEN = re.compile(r"\bpickle\.loads?\(|trust_remote_code\s*=\s*True|import torchvision|except Exception:\s*pass|np\.random\.seed\(")
SEEDING = re.compile(r"(?<!\w)torch\.manual_seed\(")


@pytest.mark.parametrize("path", [path for path in PYTHON if "tests" not in path.parts], ids=name)
def test_no_forbidden_calls(path: Path) -> None:
    """torch's global generator is seeded only where `fork_rng` puts it back: modules initialize themselves from nothing else."""
    text = path.read_text(encoding="utf-8")
    found = FORBIDDEN.search(text)
    assert found is None, found
    guarded = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.With)]
    inside = sum(len(SEEDING.findall(block)) for block in guarded if block.startswith("with torch.random.fork_rng("))
    assert len(SEEDING.findall(text)) == inside, "torch.manual_seed outside of fork_rng"


@pytest.mark.parametrize("op", OPS + CPU_OPS)
def test_an_op_has_its_whole_set_of_files(op: str) -> None:
    """Header, CPU source, CUDA kernel and launcher, Triton, op, reference, test, benchmark; one `m.def` line."""
    on_gpus = (f"csrc/cuda/{op}.cuh", f"csrc/cuda/{op}.cu", f"kernels/editscore_kernels/_triton/{op}.py")
    for place in (
        f"csrc/include/editscore/{op}.h",
        f"csrc/cpu/{op}.cpp",
        f"kernels/editscore_kernels/{op}.py",
        f"kernels/editscore_kernels/reference/{op}.py",
        f"tests/ops/test_{op}.py",
        f"benchmarks/ops/bench_{op}.py",
        *(on_gpus if op in OPS else ()),
    ):
        assert (ROOT / place).is_file(), place
    assert f'm.def("{op}' in "".join(path.read_text() for path in (ROOT / "csrc" / "bindings").glob("*.cpp"))


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """Every import of a file, lazy ones too: (module, names)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.module, [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import):
            found.extend((alias.name, []) for alias in node.names)
    return found


ROOM_FILES = [path for path in PYTHON if path.is_relative_to(ROOT / "editscore")]


@pytest.mark.parametrize("path", ROOM_FILES, ids=name)
def test_rooms_use_public_names_and_never_the_package_root(path: Path) -> None:
    room = path.relative_to(ROOT / "editscore").parts[0]
    for module, names in imports(path):
        if path.name != "__init__.py" or path.parent != ROOT / "editscore":
            assert module != "editscore" or names == ["__version__"], f"{name(path)} imports from the package root"
        parts = module.split(".")
        if parts[0] == "editscore" and len(parts) > 1 and parts[1] != room:
            private = [part for part in (*parts[1:], *names) if part.startswith("_") and not part.startswith("__")]
            assert not private, f"{name(path)} reaches into {module}: {private}"


def test_the_native_module_has_one_importer() -> None:
    importers = {
        name(path)
        for path in PYTHON
        if "tests" not in path.parts
        for module, names in imports(path)
        if module.endswith("._C") or (module == "editscore_kernels" and "_C" in names)
    }
    assert importers <= {"kernels/editscore_kernels/_native.py"}


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_do_not_import_torch(room: str) -> None:
    code = f"import editscore, editscore.{room}, sys; assert not {{'torch', 'transformers'}} & set(sys.modules), 'torch came along'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_wheel_holds_what_it_must_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(entry for entry in names if entry.endswith("METADATA"))).decode()
    assert any(re.match(r"editscore_kernels/_C\..*\.so$", entry) for entry in names)
    for needed in ("model.safetensors", "tokenizer.json", "config.json", "editscore.json", "heads.safetensors"):
        assert f"editscore/models/vlm/nano/{needed}" in names
    assert {entry.split("/")[0] for entry in names if ".dist-info" not in entry} == {"editscore", "editscore_kernels"}
    assert wheel.stat().st_size < 16 * 2**20
    requirements = re.findall(r"^Requires-Dist: ([\w.-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert "torch" in requirements
    assert not re.search(r"^Requires-Dist: (torchvision|triton|nvidia|cuda)(?!.*extra ==)", metadata, re.MULTILINE | re.IGNORECASE)
