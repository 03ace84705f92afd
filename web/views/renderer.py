"""View models in, HTML out: whole pages, and the fragments that streams patch into them.

Each method is pure and costs microseconds; each fragment's method tells which element it
replaces. Fragments carry no nonce and no script. Below the renderer is the Jinja2 environment it
works in: strict, autoescaping, with the few filters that templates may use.
"""

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from web.views.chat import MessageFragments, MessageView
from web.views.pages import ErrorPage, ErrorView, HomePage, LabPage, ProofView
from web.views.static import StaticTable
from web.views.tree import Branch, CountView, CrashView, NodeView
from web.views.words import dsid

TEMPLATES = Path(__file__).with_name("templates")

MESSAGE_LIST = "fragments/message_list.html"
# The tree and the two lists of what everybody sees; and of some who see messages of their own.
PARTS_KEPT_MAX = 12

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


class Renderer:
    """Call this once at start-up; every template is compiled here, so a broken one stops us.

    Raises `jinja2.TemplateError` for a broken template.
    """

    def __init__(self, static: StaticTable) -> None:
        self._environment: Environment = make_environment(static)
        # Those that others import too, else the first visitor waits until they are compiled.
        for name in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(name)
        # What was looked at last comes last.
        self._parts: dict[tuple[int, str, object], tuple[object, Markup]] = {}

    def _render(self, name: str, **values: object) -> str:
        return self._environment.get_template(name).render(**values)

    def home_page(self, page: HomePage) -> str:
        """Call this to render `/`."""
        return self._render("home.html", page=page, shell=page.shell)

    def lab_page(self, page: LabPage) -> str:
        """Call this to render `/lab`; what is the same on many pages is rendered once for them."""
        messages, root = page.chat.messages, page.tree.root
        parts = {
            "tree": self._part(root, "fragments/tree.html", root=root),
            "you": self._part(messages, MESSAGE_LIST, messages=messages, pane="you"),
            "demo": self._part(messages, MESSAGE_LIST, messages=messages, pane="demo"),
        }
        return self._render("lab.html", page=page, shell=page.shell, parts=parts)

    def _part(self, shown: object, name: str, **values: object) -> Markup:
        """Render a part that says nothing of who looks, unless the very same was rendered before.

        By the object itself and not by what it equals: that would cost as much. It is kept along
        with its part, so nothing else can be at its place.
        """
        key = id(shown), name, values.get("pane")
        kept = self._parts.pop(key, None)
        if kept is None:
            kept = shown, Markup(self._render(name, **values))
        self._parts[key] = kept
        while len(self._parts) > PARTS_KEPT_MAX:
            del self._parts[next(iter(self._parts))]
        return kept[1]

    def error_page(self, page: ErrorPage) -> str:
        """Call this to render the answer to a plain request that failed."""
        return self._render("error.html", page=page, shell=page.shell)

    def proof(self, proof: ProofView) -> str:
        """Call this to render the live proof strip; patch it as it is (`#proof`, outer)."""
        return self._render("fragments/proof.html", proof=proof)

    def message(self, message: MessageView) -> MessageFragments:
        """Call this once per message and viewer class, for both panes.

        A new message is appended to `#chat-you-list` and `#chat-demo-list`; one that is
        there already is patched as it is (`#chat-<pane>-<id>`, outer).
        """
        return MessageFragments(
            you=self._render("fragments/message.html", message=message, pane="you"),
            demo=self._render("fragments/message.html", message=message, pane="demo"),
        )

    def chat_window(self, messages: tuple[MessageView, ...]) -> str:
        """Call this to render both panes' whole lists; patch them as they are (by id, outer)."""
        return self._render("fragments/chat_window.html", messages=messages)

    def tree(self, root: Branch) -> str:
        """Call this to render the whole tree; patch it as it is (`#tree`, outer)."""
        return self._render("fragments/tree.html", root=root)

    def tree_row(self, node: NodeView | CountView) -> str:
        """Call this to render one changed row; patch it as it is (`#row-<id>`, outer)."""
        return self._render("fragments/tree_row.html", node=node)

    def tree_branch(self, branch: Branch | CountView, *, level: int) -> str:
        """Call this to render a new node and all below it; append it to `#kids-<parent id>`.

        `level` counts from 1 for the root.
        """
        return self._render("fragments/tree_branch.html", branch=branch, level=level)

    def tree_mark(self, mark: str) -> str:
        """Call this to render the name of the tree that is shown (`#tree-mark`, outer)."""
        return self._render("fragments/tree_mark.html", mark=mark)

    def crash(self, crash: CrashView | None) -> str:
        """Call this to render what a crash led to, or that none was (`#crash-result`, outer)."""
        return self._render("fragments/crash.html", crash=crash)

    def error_fragment(self, error: ErrorView) -> str:
        """Call this to render a failure into an open page (`#error-fragment`, outer)."""
        return self._render("fragments/error.html", error=error)


def make_environment(static: StaticTable) -> Environment:
    """Call this to get an environment whose `static_url` gives the addresses of `static`."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["dsid"] = dsid
    environment.filters["grouped"] = grouped
    environment.filters["milliseconds"] = milliseconds
    environment.filters["duration"] = duration
    environment.filters["iso"] = iso
    environment.filters["clock"] = clock
    environment.globals["static_url"] = static.url
    return environment


def grouped(count: int) -> str:
    """Call this to write a count with its thousands apart: `12,345`."""
    return f"{count:,}"


def milliseconds(value: float) -> str:
    """Call this to write milliseconds with the digits that matter: `0.42`, `7.3`, `128`."""
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(seconds: int) -> str:
    """Call this to write a duration in its two largest units: `3 h 12 min`, `42 s`."""
    days, rest = divmod(seconds, _DAY_S)
    hours, rest = divmod(rest, _HOUR_S)
    minutes, left = divmod(rest, _MINUTE_S)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def iso(at: datetime) -> str:
    """Call this to write a UTC time for machines: `2026-11-21T08:14:05Z`."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: datetime) -> str:
    """Call this to write a UTC time for people; the client script shows it in their zone."""
    return at.strftime("%H:%M:%S UTC")
