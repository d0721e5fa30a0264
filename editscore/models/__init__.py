"""Models that the rooms above run: `vlm` holds the vision-language judges."""
