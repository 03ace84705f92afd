"""What people wrote stays out of reports, dead letters and status pages (SEC-131)."""

from actors.runtime.words.showing import redact_names

HIDDEN = "***"

# Fields of messages and of actors that hold the words of visitors.
_WORDS = frozenset({"body", "message", "messages", "_messages"})


def hide_words(state: dict[str, object]) -> dict[str, object]:
    """Call this in `Actor.redact`: hides what visitors wrote, and secrets by their names."""
    return {
        name: HIDDEN if name in _WORDS else value for name, value in redact_names(state).items()
    }
