"""`greenroom lab MODE`: what visitors may do in the lab of the site that runs, without a restart.

It is a word in the state folder, which the site looks at twice a second (LAB-92). It stays there
until another one is said, also over a restart of the site, and goes before `LAB_MODE`.
"""

import json
import sys
from collections.abc import Mapping

from web.lab.switch import write_mode
from web.observability import complain
from web.settings import BadSettings, LabMode, read_settings

EXIT_USAGE = 2
EXIT_NOT_FOUND = 3


def command(mode: str, environment: Mapping[str, str], *, is_json: bool) -> int:
    """Call this to have the site take another mode; returns the exit code."""
    try:
        folder = read_settings(environment).state_dir
    except BadSettings as error:
        for line in error.problems:
            complain(line)
        return EXIT_USAGE
    try:
        write_mode(folder, LabMode(mode))
    except OSError as error:
        complain(f"greenroom: {folder} cannot be written ({error.strerror}); nothing was changed.")
        return EXIT_NOT_FOUND
    told = json.dumps({"mode": mode}) if is_json else f"The lab is {mode} within a second."
    sys.stdout.write(f"{told}\n")
    return 0
