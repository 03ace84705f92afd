"""Run the command line as `python -m web.cli`."""

import sys

from web.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
