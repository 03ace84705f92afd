"""What changed, as one page made of small files: docs/news/ has one a change.

Two who work at once never write into the same one. Its name, `0.9.0-some-words.added`, says the
version it came with and its kind, its text is one paragraph for who uses it. Pure.
"""

import re
from collections.abc import Mapping

FOLDER = "news"
PAGE = "news/what-changed"
PURPOSE = "see what is new, what works otherwise and what was mended, by version"

_NAME = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)-[a-z0-9-]+\.([a-z]+)\.md")
# In the order in which they stand below a version: what one has to act on comes first.
_KINDS = {
    "removed": "Removed",
    "changed": "Works otherwise",
    "added": "New",
    "mended": "Mended",
}
_HEAD = (
    "# What changed\n\n"
    "For who uses greenroom and is about to take a newer version: first what is gone or works "
    "otherwise, then what is new.\n"
)
_TAIL = "\nNext: [evolve stored events](../how_to/evolve-events.md), when yours change too.\n"


class NewsMisnamed(Exception):
    """Raised for a file of news whose name says no version or no kind; no page was made."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"docs/news/{name}: a name is VERSION-words.KIND.md, and a kind one of "
            f"{', '.join(_KINDS)}"
        )
        self.name = name


def what_changed(files: Mapping[str, str]) -> str:
    """Call this with the texts by file name for the page's Markdown; raises `NewsMisnamed`."""
    told: dict[tuple[int, int, int], dict[str, list[str]]] = {}
    for name in sorted(files):
        found = _NAME.fullmatch(name)
        if found is None or found[4] not in _KINDS:
            raise NewsMisnamed(name)
        version = (int(found[1]), int(found[2]), int(found[3]))
        told.setdefault(version, {}).setdefault(found[4], []).append(_item(files[name]))
    parts = [_HEAD]
    for version in sorted(told, reverse=True):
        parts.append(f"\n## {'.'.join(map(str, version))}\n")
        for kind, title in _KINDS.items():
            if kind in told[version]:
                parts.append(f"\n### {title}\n\n" + "".join(told[version][kind]))
    return "".join([*parts, _TAIL])


def _item(text: str) -> str:
    return "- " + "\n  ".join(text.strip().splitlines()) + "\n"
