"""What the lab page shows: the tree panel and the chat panel in one frame.

View models only. Template: `templates/lab.html`.
"""

from dataclasses import dataclass

from web.views.chat import ChatView
from web.views.shell import Shell
from web.views.tree import TreeView


@dataclass(frozen=True, slots=True)
class LabPage:
    """The whole lab page."""

    shell: Shell
    tree: TreeView
    chat: ChatView
