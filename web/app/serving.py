"""A program that is a site: settings from the environment, log lines, and its exit code.

Exit codes: 0 done and clean, 1 failed or something had to be cut, 2 usage or settings, 4 refused
because of who else serves the store.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio

from actors.runtime import Log
from actors.runtime.words.showing import shown
from web.app.clustering import node_name
from web.app.running import CannotStart
from web.observability import complain, configure_logging, first_leaf
from web.observability.operating.recent import RECENT
from web.settings import BadSettings, Cluster, Settings, read_settings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

log = Log(__name__)


def run_program(environment: Mapping[str, str], run: Callable[[Settings], Awaitable[int]]) -> int:
    """Call this to `run` a site until a signal; gives the exit code."""
    try:
        settings = read_settings(environment)
    except BadSettings as error:
        return _refuse(error.problems)
    node = node_name(settings) if settings.cluster is Cluster.ON else ""
    configure_logging(settings.log_format, settings.log_level, node=node, recent=RECENT)
    code = EXIT_USAGE
    try:
        # Only there: anywhere else it could leave a nursery that was opened and never closed.
        code = trio.run(run, settings, restrict_keyboard_interrupt_to_checkpoints=True)
    except* CannotStart as group:
        refused = first_leaf(group)
        _refuse([str(refused)])
        code = getattr(refused, "code", EXIT_USAGE)
    except* KeyboardInterrupt:
        # Ctrl-C before the tree was up: what was opened has been closed on the way here.
        code = EXIT_INTERRUPTED
    except* Exception as group:
        code = EXIT_FAILED
        log.error("site.failed", exc_info=group)
        complain(
            f"greenroom: the site ended because of {shown(first_leaf(group))}; the log above has "
            "the cause. Nothing that was acknowledged is lost; start it again."
        )
    return code


def _refuse(problems: Sequence[str]) -> int:
    for line in problems:
        complain(line)
    return EXIT_USAGE
