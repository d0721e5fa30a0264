"""The verdict: four integers and two reasons, as a documented function of two scene graphs and the painted faults (docs/world.md)."""

from typing import Final

from editscore.world.compare import Progress, follow
from editscore.world.palette import GRADES, QUALITY_FAULTS
from editscore.world.records import Verdict
from editscore.world.scene import Fault, Operation, Scene
from editscore.world.side_effects import Finding, side_effects

FULL: Final = 25
# What an unasked change costs consistency. A tone costs 4 + 8 share; graded ones have three prices.
CONSISTENCY_COSTS: Final[dict[str, tuple[int, int, int]]] = {
    "lose": (10, 10, 10),
    "over_edit": (8, 8, 8),
    "wrong_object": (8, 8, 8),
    "recolor": (7, 7, 7),
    "rematerial": (6, 6, 6),
    "reshape": (8, 8, 8),
    "resize": (5, 5, 5),
    "shift": (6, 6, 6),
    "rewrite": (6, 6, 6),
    "reface": (6, 6, 6),
    "extra": (8, 8, 8),
    "background": (11, 11, 11),
    "style": (12, 12, 12),
    "shifted": (4, 7, 10),
    "cropped": (5, 8, 11),
    "cast": (3, 5, 8),
}
TONE_COST: Final = (4, 8)
NATURALNESS_COSTS: Final[dict[str, tuple[int, int, int]]] = {
    "noise": (2, 4, 7),
    "blur": (2, 4, 6),
    "blocks": (2, 4, 7),
    "banding": (3, 5, 8),
    "streaks": (2, 4, 6),
    "halo": (7, 12, 17),
    "seam": (7, 12, 17),
    "cut": (8, 12, 17),
    "cast": (7, 12, 18),
    "burn": (6, 11, 16),
    "ghost": (6, 6, 6),
    "broken": (4, 4, 4),
}
ARTIFACT_COSTS: Final[dict[str, tuple[int, int, int]]] = {
    "noise": (7, 12, 18),
    "blur": (6, 11, 16),
    "blocks": (7, 12, 17),
    "banding": (6, 10, 15),
    "streaks": (7, 11, 16),
    "halo": (3, 4, 6),
    "seam": (3, 5, 7),
    "cut": (3, 5, 7),
    "cast": (1, 2, 3),
    "burn": (1, 3, 5),
    "ghost": (3, 3, 3),
    "broken": (8, 8, 8),
}
_MOST_PHRASES: Final = 2  # a reason names at most so many side effects, the dearest first, then `more`; all count


def visible_faults(scene: Scene, painted: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Painted faults and those that the scene itself shows, in the palette's order."""
    faults = list(painted)
    if any(o.opacity < 1 for o in (*scene.objects, *scene.ghosts)):
        faults.append(Fault("ghost", 2))
    if any(o.text == "broken" for o in scene.objects):
        faults.append(Fault("broken", 2))
    return tuple(sorted(faults, key=lambda f: QUALITY_FAULTS.index(f.kind)))


def pronounce(
    operations: tuple[Operation, ...], before: Scene, after: Scene, painted: tuple[Fault, ...] = ()
) -> tuple[Verdict, tuple[Fault, ...]]:
    """The verdict on an edit and all its faults: of the edit, of what it touched besides, of the picture."""
    taken = tuple(op.target for op in operations)
    progress = tuple(follow(op, before, after, taken) for op in operations)
    findings = side_effects(operations, progress, before, after)
    cast = next((f for f in painted if f.kind == "cast"), None)
    if cast is not None:
        findings.append(Finding("cast", f"{cast.subject} cast", grade=cast.grade))
    visible = visible_faults(after, painted)
    verdict = Verdict(
        prompt_following=_rounded(FULL * sum(p.share for p in progress) / len(progress)),
        consistency=max(0, FULL - sum(_cost(f) for f in findings)),
        naturalness=max(0, FULL - sum(NATURALNESS_COSTS[f.kind][f.grade - 1] for f in visible)),
        artifacts=max(0, FULL - sum(ARTIFACT_COSTS[f.kind][f.grade - 1] for f in visible)),
        sc_reason=_sc_reason(progress, findings),
        pq_reason=_pq_reason(visible),
    )
    return verdict, (*_edit_faults(progress), *_collateral_faults(findings), *visible)


def _rounded(value: float) -> int:
    return int(value + 0.5 + 1e-9)


def _cost(finding: Finding) -> int:
    if finding.kind == "tone":
        return _rounded(TONE_COST[0] + TONE_COST[1] * finding.share)
    return CONSISTENCY_COSTS[finding.kind.removeprefix("target_")][finding.grade - 1]


def _sc_reason(progress: tuple[Progress, ...], findings: list[Finding]) -> str:
    done = ", ".join(p.phrase for p in progress)
    spoilt = sorted((f for f in findings if f.phrase), key=lambda f: -_cost(f))
    said = [f.phrase for f in spoilt[:_MOST_PHRASES]] + (["more"] if len(spoilt) > _MOST_PHRASES else [])
    return f"{done}; {', '.join(said) or 'rest kept'}"


def _pq_reason(visible: tuple[Fault, ...]) -> str:
    words = {"ghost": "ghost object", "broken": "broken text"}
    return ", ".join(words.get(f.kind) or f"{GRADES[f.grade - 1]} {_quality_name(f)}" for f in visible) or "clean image"


def _quality_name(fault: Fault) -> str:
    return f"{fault.subject} cast" if fault.kind == "cast" else fault.kind


def _edit_faults(progress: tuple[Progress, ...]) -> tuple[Fault, ...]:
    kinds = [kind for p in progress for kind in p.faults]
    if len(progress) > 1 and any(p.share > 0 for p in progress) and any(p.share == 0 for p in progress):
        kinds = ["half_compose", *(k for k in kinds if k != "noop")]
    return tuple(Fault(kind, 2, "edit") for kind in dict.fromkeys(kinds))


def _collateral_faults(findings: list[Finding]) -> tuple[Fault, ...]:
    return tuple(Fault(f.kind, f.grade, "collateral", subject=f.subject) for f in findings if f.kind not in ("cast", "wrong_object"))
