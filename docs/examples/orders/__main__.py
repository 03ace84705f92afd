"""`python -m docs.examples.orders`: serve orders, or with `--order-id ID` print one's history."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from docs.examples.orders import PLAN
from docs.examples.orders.history import command
from web.app import serve_site
from web.cli.answering import answer


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Call this with what was typed; gives the exit code."""
    parser = argparse.ArgumentParser(prog="orders", description=__doc__)
    parser.add_argument("--order-id", help="print what happened to this order, and end")
    parser.set_defaults(json=False, debug=False)
    parsed = parser.parse_args(arguments)
    if parsed.order_id is None:
        return serve_site(PLAN, environment)
    return answer(command, parsed, environment)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
