"""A client that makes up names without end fills nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.journeys.site_process import ROOT
from tests.patience import PATIENCE_S

# The long form is in `make soak`; the maps are full with a fifth of these already.
_NAMES = int(os.environ.get("NAMES", "50000"))
_GROWN_MIB_MAX = 30.0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_distinct_names_leave_the_server_within_a_bound() -> None:
    # REL-72: addresses, tabs, clients, ids of requests and commands, rooms that are none
    told = subprocess.run(
        [sys.executable, "-m", "tests.web.many_names", str(_NAMES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S + _NAMES / 1000,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    grown = {name: float(mib) for name, mib in map(str.split, told.stdout.splitlines())}
    assert len(grown) == 6
    # Each tells what there is of all before it.
    assert max(grown.values()) <= _GROWN_MIB_MAX, grown
