"""`python -m editscore` is the command `editscore`."""

import sys

from editscore.cli import main

if __name__ == "__main__":
    sys.exit(main())
