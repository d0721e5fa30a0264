"""EditScore: scores instruction-guided image edits."""
