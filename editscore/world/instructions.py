"""Instructions in plain English, several phrasings for every operation."""

from typing import Final

from editscore.world.palette import PLACES
from editscore.world.sampling import Rng, pick
from editscore.world.scene import Background, Operation, Scene

# {o} the object's name, {p} the new object with its article, {v} the new value, {w} the place with its preposition, {t} the old text.
PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "add": ("add {p} {w}", "put {p} {w}", "draw {p} {w}", "place {p} {w}", "there should be {p} {w}"),
    "remove": ("remove the {o}", "erase the {o}", "delete the {o}", "get rid of the {o}", "take the {o} away"),
    "replace": ("replace the {o} with {p}", "swap the {o} for {p}", "turn the {o} into {p}", "change the {o} to {p}"),
    "color": ("make the {o} {v}", "paint the {o} {v}", "change the color of the {o} to {v}", "turn the {o} {v}", "color the {o} {v}"),
    "material": ("make the {o} {v}", "give the {o} a {v} surface", "change the material of the {o} to {v}", "turn the {o} {v}"),
    "style": ("turn the image into {v}", "make the image look like {v}", "redraw the picture as {v}", "change the style to {v}"),
    "tone": ("make the image {v}", "give the picture a {v} tone", "change the tone of the image to {v}", "turn the picture {v}"),
    "background": (
        "change the background to {v}",
        "replace the background with {v}",
        "make the background {v}",
        "put {v} in the background",
    ),
    "extract": ("extract the {o}", "cut out the {o} on white", "isolate the {o} on a white background", "keep only the {o} on white"),
    "expression": ("make the {o} {v}", "make the {o} look {v}", "change the face of the {o} to {v}", "the {o} should look {v}"),
    "hair": ("change the hair of the {o} to {v}", "give the {o} {v} hair", "color the hair of the {o} {v}", "make the hair {v}"),
    "text": ("change the text on the {o} to {v}", "make the {o} say {v}", "write {v} on the {o}", "replace the text {t} with {v}"),
    "move": ("move the {o} {w}", "shift the {o} {w}", "send the {o} {w}", "bring the {o} {w}"),
}
ACCESSORY_PHRASES: Final[dict[str, tuple[str, ...]]] = {
    "glasses": ("give the {o} glasses", "put glasses on the {o}", "add glasses to the {o}", "the {o} should wear glasses"),
    "hat": ("give the {o} a hat", "put a hat on the {o}", "add a hat to the {o}", "the {o} should wear a hat"),
    "none": ("remove the {t} from the {o}", "take the {t} off the {o}", "the {o} should not wear {u}", "take off the {t}"),
}
STYLE_NOUNS: Final = {"sketch": "a sketch", "poster": "a poster", "negative": "a negative", "neon": "neon"}
_COMPOSE_PHRASES: Final = 2  # compose joins the first phrasings of each kind, to stay short


def with_article(name: str) -> str:
    """a red circle, an orange star."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def place_words(cell: int, moving: bool) -> str:
    """at the top left; to the center."""
    return f"{'to' if moving else 'at'} the {PLACES[cell]}"


def background_words(background: Background) -> str:
    """plain white, a gray gradient, white lines, a forest ..."""
    if background.kind in ("plain", "lines", "tiles", "stone", "night"):
        return background.name
    if background.kind in ("sky", "sea"):
        return f"the {background.kind}"
    return with_article(background.name)


def write_instruction(rng: Rng, scene: Scene, operations: tuple[Operation, ...]) -> str:
    """One sentence without a full stop, lower case."""
    parts = [_write(rng, scene, op, short=len(operations) > 1) for op in operations]
    joint = pick(rng, (" and ", " and then "))
    return joint.join(parts)


def _write(rng: Rng, scene: Scene, operation: Operation, short: bool) -> str:
    target = scene.find(operation.target)
    options = PHRASES.get(operation.kind) or ACCESSORY_PHRASES[operation.value]
    phrase = pick(rng, options[:_COMPOSE_PHRASES] if short else options)
    cell = operation.cell if operation.kind == "move" else (operation.object.cell if operation.object is not None else 0)
    value = operation.value
    if operation.kind == "style":
        value = STYLE_NOUNS[value]
    elif operation.background is not None:
        value = background_words(operation.background)
    old = ""
    if target is not None:
        old = target.text if operation.kind == "text" else target.accessory
    return phrase.format(
        o=target.name if target is not None else "",
        p=with_article(operation.object.name) if operation.object is not None else "",
        v=value,
        w=place_words(cell, operation.kind == "move"),
        t=old,
        u="a hat" if old == "hat" else old,
    )
