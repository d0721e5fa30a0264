"""What a scorer refuses before any work: each check raises InvalidInputError that names the argument."""

from __future__ import annotations

from collections.abc import Iterable

from editscore.judges import Judge
from editscore.scoring.engines import DEVICE_JOINT
from editscore.types import EditSample, InvalidInputError


def check_judge(judge: object) -> None:
    """Raises InvalidInputError for what is no judge; a class instead of its instance is none."""
    if isinstance(judge, type) or not isinstance(judge, Judge):
        raise InvalidInputError("judge", "needs name, prompts_digest and run")


def check_samples(samples: object) -> None:
    """A list or tuple is checked as a whole before any work; what comes from another iterable, as it comes."""
    if isinstance(samples, (EditSample, str, bytes)) or not isinstance(samples, Iterable):
        raise InvalidInputError("samples", f"needs a list of EditSample, not {_kind(samples)}")
    if isinstance(samples, (list, tuple)):
        for sample in samples:
            check_sample(sample)


def check_sample(sample: object) -> None:
    """One of them."""
    if not isinstance(sample, EditSample):
        raise InvalidInputError("samples", f"needs a list of EditSample, not one that holds {_kind(sample)}")


def check_seed(seed: int) -> int:
    """The seed, if it is one."""
    if not 0 <= seed < 2**63:
        raise InvalidInputError("seed", f"{seed} is outside 0..2^63")
    return seed


def check_devices(device: object, devices: object) -> None:
    """One device or a list of them, not both; each of the list may join several that share the model."""
    if devices is None:
        if isinstance(device, str) and DEVICE_JOINT in device:
            raise InvalidInputError("device", f"{device!r} joins several, which goes with devices=[{device!r}]")
        return
    if device is not None:
        raise InvalidInputError("devices", "give either device or devices")
    if not isinstance(devices, (list, tuple)) or not devices or not all(isinstance(each, str) for each in devices):
        raise InvalidInputError("devices", f"needs a list with at least one device, such as ['cuda:0', 'cuda:1'], not {devices!r}")
    for group in devices:
        joined = group.split(DEVICE_JOINT)
        kinds = {each.partition(":")[0] for each in joined}
        if len(joined) > 1 and (len(kinds) > 1 or (kinds != {"cpu"} and len(set(joined)) < len(joined))):
            raise InvalidInputError("devices", f"{group!r} needs different devices of one kind, such as 'cuda:0+cuda:1'")


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeio' else 'a'} {name}"
