"""`greenroom lab MODE`: what visitors may do in the lab of the site that runs, without a restart.

It is a word in the state folder, which the site looks at twice a second (LAB-92). It stays there
until another one is said, also over a restart of the site, and goes before `LAB_MODE`.

Rule: it is opened with a row of the audit only. It is closed also where none can be written: a
database in trouble is a reason to close it.
"""

import argparse
from collections.abc import Mapping

from web.cli.answering import Teller
from web.cli.opening import changing, changing_anyway, open_store
from web.lab.switch import write_mode
from web.observability import Code, CommandFailed
from web.settings import LabMode, read_settings


async def command(
    parsed: argparse.Namespace, environment: Mapping[str, str], teller: Teller
) -> int:
    """Call this to have the site take another mode; returns the exit code."""
    folder, mode = read_settings(environment).state_dir, LabMode(parsed.mode)
    # Before anybody is asked: nobody confirms what cannot be done.
    if not folder.is_dir():
        raise CommandFailed(
            Code.UNKNOWN,
            f"there is no folder {folder}; nothing was changed",
            "Name that of the site (STATE_DIR, --state-dir)",
        )
    what = f"have the lab be {mode} for all who visit it"
    if mode is LabMode.PUBLIC:
        async with (
            open_store(environment, is_any_schema=True) as database,
            changing(parsed, teller, database, what, mode),
        ):
            write_mode(folder, mode)
    else:
        async with changing_anyway(parsed, teller, environment, what, mode):
            write_mode(folder, mode)
    if parsed.json:
        teller.one({"mode": mode.value})
    else:
        teller.text(f"The lab is {mode} within a second.")
    return Code.DONE
