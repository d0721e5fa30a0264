"""What can be wrong with a model or an adapter; each is an `InvalidInputError`, so a command reports it in one line."""

from __future__ import annotations

from editscore.types import InvalidInputError


class UnknownModelError(InvalidInputError):
    """No folder and no hub repository answers to the name; the message says what was looked for."""

    def __init__(self, message: str) -> None:
        super().__init__("model", message)


class MissingWeightsError(InvalidInputError):
    """The folder is there, its safetensors are not, or they do not hold every tensor of the model."""

    def __init__(self, message: str) -> None:
        super().__init__("model", message)


class UnsupportedModelError(InvalidInputError):
    """The checkpoint is of a kind that this room does not run."""

    def __init__(self, message: str) -> None:
        super().__init__("model", message)


class AdapterError(InvalidInputError):
    """An adapter that cannot be applied completely; the message names the tensors at fault."""

    def __init__(self, message: str) -> None:
        super().__init__("adapter", message)
