"""One benchmark per stage."""
