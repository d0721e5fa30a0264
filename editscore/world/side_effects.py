"""What an edit changed without being asked to, read off the scene graphs before and after."""

from typing import Final

import msgspec

from editscore.world.compare import ATTRIBUTE, SHIFT_TOLERANCE, Progress, added, distance
from editscore.world.operations import EXTRACT_GROUND
from editscore.world.palette import BROKEN_TEXT
from editscore.world.scene import Camera, Operation, Scene, SceneObject

_STILL: Final = Camera()
_ALLOWED: Final[dict[str, tuple[str, ...]]] = {"replace": ("shape", "color", "material"), "move": ("place",)}


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it should be. `share` 0..1 scales its cost where the oracle says so."""

    kind: str
    phrase: str
    grade: int = 2
    share: float = 1.0
    subject: str = ""


def side_effects(operations: tuple[Operation, ...], progress: tuple[Progress, ...], before: Scene, after: Scene) -> list[Finding]:
    """All that changed without being asked for, object by object, then the whole picture."""
    by_target = {op.target: op for op in operations}
    wrong = {p.wrong: op for p, op in zip(progress, operations, strict=True) if p.wrong >= 0}
    findings: list[Finding] = []
    extracted = any(op.kind == "extract" for op in operations) and after.background == EXTRACT_GROUND
    for old in before.objects:
        now = after.find(old.key)
        if old.key in wrong:
            findings.append(Finding("wrong_object", "", subject=old.name))
        op = by_target.get(old.key) or wrong.get(old.key)
        if now is None:
            if op is None and not extracted:
                also = any(o.kind == "remove" and p.share > 0 and p.wrong < 0 for o, p in zip(operations, progress, strict=True))
                kind, word = ("over_edit", "also removed") if also else ("lose", "lost")
                findings.append(Finding(kind, f"{old.name} {word}", subject=old.name))
        elif not extracted or op is not None:
            findings += _object_changes(old, now, op, () if op is not None else operations)
    asked = [added(op, before, after) for op in operations if op.kind == "add"]
    for extra in after.objects:
        if before.find(extra.key) is None and extra not in asked:
            findings.append(Finding("extra", f"extra {extra.name}", subject=extra.name))
    return findings + _picture_changes(operations, before, after, extracted)


def _object_changes(old: SceneObject, now: SceneObject, op: Operation | None, over: tuple[Operation, ...]) -> list[Finding]:
    """Changes of one object; those that its own operation asks for do not count."""
    allowed = () if op is None else _ALLOWED.get(op.kind, (ATTRIBUTE.get(op.kind, ""),))
    prefix = "target_" if op is not None else ""
    also = any((o.kind, o.value) in (("color", now.color), ("material", now.material)) for o in over)
    found: list[tuple[str, str]] = []
    if now.shape != old.shape and "shape" not in allowed:
        found.append(("reshape", f"turned {now.shape}"))
    if now.color != old.color and "color" not in allowed:
        found.append(("over_edit", f"also turned {now.color}") if also else ("recolor", f"turned {now.color}"))
    if now.material != old.material and "material" not in allowed:
        found.append(("over_edit", f"also turned {now.material}") if also else ("rematerial", f"turned {now.material}"))
    if now.size != old.size:
        found.append(("resize", "grew" if now.size == "large" else "shrank"))
    if distance(old.center, now.center) > SHIFT_TOLERANCE and "place" not in allowed:
        found.append(("shift", "moved"))
    if now.text != old.text and "text" not in allowed:
        found.append(("rewrite", "text broken" if now.text == BROKEN_TEXT else f"says {now.text}"))
    if (now.expression, now.accessory) != (old.expression, old.accessory) and not {"expression", "accessory"} & set(allowed):
        found.append(("reface", "turned " + now.expression))
    return [Finding(k if k == "over_edit" else prefix + k, f"{old.name} {words}", subject=old.name) for k, words in found]


def _picture_changes(operations: tuple[Operation, ...], before: Scene, after: Scene, extracted: bool) -> list[Finding]:
    asked = {op.kind for op in operations}
    findings: list[Finding] = []
    if after.background != before.background and "background" not in asked and not extracted:
        findings.append(Finding("background", f"background turned {after.background.name}"))
    if after.tone and "tone" not in asked:
        slightly = "slightly " if after.tone_share < 0.65 else ""
        findings.append(Finding("tone", f"image {slightly}turned {after.tone}", grade=1 if slightly else 3, share=after.tone_share))
    if after.style and "style" not in asked:
        findings.append(Finding("style", f"image turned {after.style}"))
    if after.camera != _STILL:
        camera = after.camera
        reach = max(abs(camera.shift_x), abs(camera.shift_y)) / 4 if camera.zoom == 1 else (camera.zoom - 1) / 0.125
        grade = min(3, max(1, int(reach + 0.5)))
        word = "shifted" if camera.zoom == 1 else "cropped"
        findings.append(Finding(word, f"image {('slightly ', '', 'strongly ')[grade - 1]}{word}", grade=grade))
    return findings
