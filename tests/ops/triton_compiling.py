"""Compiles a Triton kernel for an architecture that this machine does not have, and reads from the result what a GPU would need."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

ARCHITECTURES = (80, 90, 100)
# Bytes of shared memory that one block may have: CUDA programming guide, "Technical specifications per compute capability".
SHARED_LIMIT = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Compiled:
    registers: int
    stack: int  # bytes of local memory a thread, where spilled registers go
    shared: int
    ptx: str
    ttgir: str


def compile_kernel(kernel: Any, types: Mapping[str, str], constants: Mapping[str, Any], architecture: int, **options: Any) -> Compiled:
    """`types` of the arguments that are neither constants nor int32; pointers and int32 strides are taken as multiples of 16."""
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in constants else types.get(name, "i32")
        is_plain_number = name.startswith(("num_", "max_", "leaf_w", "own_w"))
        if signature[name][0] == "*" or (signature[name] == "i32" and not is_plain_number):
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=dict(constants), attrs=attributes)
    # Each architecture's own name ("90a") is what a GPU's driver asks for too; triton adds the letter.
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"enable_fp_fusion": False, **options})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True, env=os.environ)
    found = {name: int(value) for name, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage.stdout)}
    return Compiled(found["REG"], found["STACK"] + found["LOCAL"], compiled.metadata.shared, compiled.asm["ptx"], compiled.asm["ttgir"])
