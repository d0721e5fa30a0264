"""Every name that EditWorld knows: tasks, shapes, colors, materials, sizes, backgrounds, tones, styles, texts, places, faults.

The order of each tuple is the order of the class ids that `labels.py` gives out (id = index + 1, 0 = none), so a name is only
ever appended. Colors are sRGB triples 0..255. Lengths are in lattice units: 1 unit = 1/84 of the image's side.
"""

from typing import Final

LATTICE: Final = 84
GRID: Final = 3
CELL: Final = LATTICE // GRID

TASKS: Final = (
    "subject-add",
    "subject-remove",
    "subject-replace",
    "color_alter",
    "material_alter",
    "style_change",
    "tone_transfer",
    "background_change",
    "extract",
    "ps_human",
    "text_change",
    "motion_change",
    "compose",
)

# Plain shapes may stand anywhere; a sign carries a text and a person a face, at most one of each in a scene.
PLAIN_SHAPES: Final = ("circle", "square", "triangle", "diamond", "ring", "cross", "star", "heart")
SHAPES: Final = (*PLAIN_SHAPES, "sign", "person")

COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (219, 46, 46),
    "green": (42, 160, 66),
    "blue": (48, 82, 222),
    "yellow": (244, 214, 54),
    "purple": (140, 58, 188),
    "orange": (245, 136, 32),
    "cyan": (52, 202, 212),
    "pink": (248, 134, 188),
}
MATERIALS: Final = ("solid", "striped", "dotted", "checkered", "glossy")
SIZES: Final[dict[str, float]] = {"small": 8.0, "large": 12.0}

BACKGROUND_COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "white": (250, 250, 250),
    "gray": (150, 150, 150),
    "beige": (226, 210, 180),
    "navy": (36, 42, 78),
    "mint": (188, 230, 206),
    "brown": (112, 82, 58),
}
# The first four take a background color; the next six are drawn to look like photographs; `photo` is a crop of a caller's photograph.
COLORED_BACKGROUNDS: Final = ("plain", "gradient", "lines", "tiles")
SCENIC_BACKGROUNDS: Final = ("sky", "forest", "desert", "sea", "night", "stone")
BACKGROUNDS: Final = (*COLORED_BACKGROUNDS, *SCENIC_BACKGROUNDS, "photo")

TONES: Final = ("warm", "cool", "dark", "bright", "gray")
STYLES: Final = ("sketch", "poster", "negative", "neon")
EXPRESSIONS: Final = ("happy", "sad", "surprised")
ACCESSORIES: Final = ("none", "glasses", "hat")
TEXTS: Final = ("h", "k", "l", "o", "s", "t", "x", "z", "go", "no", "up", "hi")
BROKEN_TEXT: Final = "broken"

PLACES: Final = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")

# Faults that the picture alone shows, each with a grade 1..3 (weak, medium, strong). The last two are not painted over the
# picture but seen in the scene itself: a half transparent object, a text that is no text; their grade is always 2.
PAINTED_FAULTS: Final = ("noise", "blur", "blocks", "banding", "streaks", "halo", "seam", "cut", "cast", "burn")
QUALITY_FAULTS: Final = (*PAINTED_FAULTS, "ghost", "broken")
GRADES: Final = ("weak", "medium", "strong")
CAMERAS: Final = ("shifted", "cropped")
