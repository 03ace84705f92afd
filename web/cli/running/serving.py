"""`greenroom serve`: the site until a signal; see `web/app/serving.py`."""

from collections.abc import Mapping

from web.app import run_program, run_site


def serve(environment: Mapping[str, str]) -> int:
    """Call this to run the site until a signal; returns the exit code."""
    return run_program(environment, run_site)
