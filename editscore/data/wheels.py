"""Texts out of a wheel without running it: a member is parsed, never imported.

A wheel is a zip file. A text counts only where the source assigns a plain string literal to a name, once, at the top of the
module; anything that would have to be computed is an error.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from editscore.types import InvalidInputError

# A module of texts has some kilobytes; a member that claims more is not read.
MAX_MEMBER_BYTES = 1 << 20
_METADATA = re.compile(r"([A-Za-z0-9_.]+)-([^-/]+)\.dist-info/METADATA")


class Wheel:
    """A wheel on disk. `project` and `version` are what its own metadata folder is called.

    Raises InvalidInputError("wheel") for a file that is none, here and in the methods.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                found = [match for name in archive.namelist() if (match := _METADATA.fullmatch(name))]
            with self.path.open("rb") as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InvalidInputError("wheel", f"{self.path}: {error.strerror or error}") from error
        except zipfile.BadZipFile as error:
            raise InvalidInputError("wheel", f"{self.path} is no wheel: {error}") from error
        if len(found) != 1:
            raise InvalidInputError("wheel", f"{self.path} is no wheel: it has {len(found)} metadata folders, not one")
        self.project, self.version = found[0].groups()

    def parse(self, member: str) -> ast.Module:
        """The syntax tree of one module."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
                source = file.read(MAX_MEMBER_BYTES + 1)
        except KeyError as error:
            raise InvalidInputError("wheel", f"{self.path} has no {member}") from error
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
            raise InvalidInputError("wheel", f"{self.path}: {member} cannot be read: {error}") from error
        if len(source) > MAX_MEMBER_BYTES:
            raise InvalidInputError("wheel", f"{self.path}: {member} is over {MAX_MEMBER_BYTES} bytes")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a stray backslash in someone else's source is not the user's business
                return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InvalidInputError("wheel", f"{self.path}: {member} is no Python source: {error}") from error


def assigned_texts(module: ast.Module, names: Iterable[str]) -> dict[str, str]:
    """The string literals that a module assigns to these names. Raises InvalidInputError("wheel") naming the first that is missing,
    assigned twice, or anything else than a literal."""
    values: dict[str, list[ast.expr]] = {name: [] for name in names}
    for statement in module.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in values:
                value = getattr(statement, "value", None) if isinstance(statement, (ast.Assign, ast.AnnAssign)) else None
                values[target.id].append(value or ast.Name(target.id))
    return {name: _text(name, found) for name, found in values.items()}


def _text(name: str, values: list[ast.expr]) -> str:
    if len(values) != 1:
        raise InvalidInputError("wheel", f"the module assigns {name} {len(values)} times, not once")
    try:
        text = ast.literal_eval(values[0])
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise InvalidInputError("wheel", f"{name} is not a plain text but something to be computed, which is not done") from error
    if not isinstance(text, str):
        raise InvalidInputError("wheel", f"{name} is a {type(text).__name__}, not a text")
    return text


def text_literals(module: ast.Module) -> Iterator[str]:
    """Every string literal of a module, wherever it stands."""
    return (node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str))
