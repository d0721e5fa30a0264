"""The command `editscore`. Nothing here imports torch before a command needs it."""

from editscore.cli.app import main

__all__ = ["main"]
