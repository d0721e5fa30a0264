"""The definition of correct: every op in plain torch. Imports torch only."""
