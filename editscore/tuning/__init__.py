"""Training of judges. `nano/` holds the recipe of the judge that comes with the package."""
