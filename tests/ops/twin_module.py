"""Builds and loads the host twin of a CUDA kernel: `load_twin("sample_tokens").sample_tokens(...)` runs the kernel's own source on the CPU.

A module is compiled by g++ from `csrc/bindings/<op>_twin.cpp` and `csrc/cuda/<op>_twin.cpp` (the second if there is one) into `build/twin`
and built again when a file that it includes has changed. It is for tests; the wheel has none of it. docs/host-twin.md says more.
"""

import functools
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pybind11

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "twin"
SANITIZE = "EDITSCORE_TWIN_SANITIZE"
# Contraction would round otherwise than the kernel says; the pattern makes a variable that was never set differ from zero.
FLAGS = (
    *("-std=c++20", "-O2", "-g1", "-march=native", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unknown-pragmas"),
    *("-ffp-contract=off", "-fno-math-errno", "-ftrivial-auto-var-init=pattern"),
)


@functools.cache
def compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "g++"))
    assert found, "the host twins need a C++20 compiler: g++, or the one named by CXX"
    return found


def run(*command: object) -> str:
    """The output of a compiler's command, without the libraries that are preloaded into this process."""
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@functools.cache
def load_twin(name: str, *, defines: tuple[str, ...] = (), sources: tuple[Path, ...] = (), sanitize: str | None = None) -> ModuleType:
    """The module `<name>_twin`, with `-D` defines. `sanitize` ("address,undefined") needs a Python that was started with
    `sanitizer_environment`; its default is that environment's own."""
    sanitize = os.environ.get(SANITIZE, "") if sanitize is None else sanitize
    if not sources:
        binding, launch = ROOT / "csrc" / "bindings" / f"{name}_twin.cpp", ROOT / "csrc" / "cuda" / f"{name}_twin.cpp"
        sources = (binding, launch) if launch.is_file() else (binding,)
    flags = [*FLAGS, *(f"-D{define}" for define in defines), *sanitizer_flags(sanitize)]
    module = f"{name}_twin"
    folder = BUILD / f"{module}-{key(flags, sources)}"
    library = folder / f"{module}.so"
    if not is_fresh(folder, library):
        build(folder, library, flags, sources)
    spec = importlib.util.spec_from_file_location(module, library)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def sanitizer_flags(sanitize: str) -> list[str]:
    return [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"] if sanitize else []


def sanitizer_environment(sanitize: str = "address,undefined") -> dict[str, str]:
    """The environment of a Python process whose twins are built with these sanitizers. Python itself leaks, so leaks are not counted."""
    preloaded = [run(compiler(), f"-print-file-name={library}").strip() for library in ("libasan.so", "libstdc++.so")]
    return {**os.environ, SANITIZE: sanitize, "LD_PRELOAD": " ".join(preloaded), "ASAN_OPTIONS": "detect_leaks=0"}


def key(flags: Sequence[str], sources: Sequence[Path]) -> str:
    """What, besides the contents of files, a build depends on: the processor too, because of -march=native."""
    facts = [
        run(compiler(), "--version"),
        platform.machine(),
        processor_flags(),
        sys.version,
        pybind11.__version__,
        *flags,
        *map(str, sources),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def processor_flags() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def is_fresh(folder: Path, library: Path) -> bool:
    manifest = folder / "inputs.json"
    if not (library.is_file() and manifest.is_file()):
        return False
    return all(digest(Path(path)) == seen for path, seen in json.loads(manifest.read_text()).items())


def digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def build(folder: Path, library: Path, flags: Sequence[str], sources: Sequence[Path]) -> None:
    """Compiles beside the target and renames, so that several processes may build at once."""
    includes = [ROOT / "csrc", ROOT / "csrc" / "cuda", ROOT / "csrc" / "include", pybind11.get_include(), sysconfig.get_paths()["include"]]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        objects = [Path(scratch) / f"{number}.o" for number in range(len(sources))]
        options = [*flags, *(f"-I{path}" for path in includes), "-MMD"]
        commands = [(compiler(), *options, "-c", source, "-o", target) for source, target in zip(sources, objects, strict=True)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda command: run(*command), commands))
        made = Path(scratch) / library.name
        run(compiler(), *flags, "-shared", *objects, "-o", made)
        inputs = {path: digest(Path(path)) for target in objects for path in included(target.with_suffix(".d"))}
        (Path(scratch) / "inputs.json").write_text(json.dumps(inputs))
        made.replace(library)
        (Path(scratch) / "inputs.json").replace(folder / "inputs.json")


def included(dependencies: Path) -> list[str]:
    """The files of a make rule `target: a b \\ c`."""
    return dependencies.read_text().replace("\\\n", " ").split(":", 1)[1].split()
