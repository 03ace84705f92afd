"""Runs the tests of a program that was made, in a fork of a process that has imported ours."""

from __future__ import annotations

import gc
import sys

import pytest

if __name__ == "__main__":
    # hypothesis, which pytest-trio loads, asks who refers to a generator; of what a fork found
    # there already it is not told (`tests.processes.server`).
    gc.unfreeze()
    raise SystemExit(pytest.main(sys.argv[1:]))
