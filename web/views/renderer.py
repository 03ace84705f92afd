"""View models in, HTML out: whole pages, and the fragments that streams patch into them.

Each method is pure and costs microseconds; each fragment's method tells which element it
replaces. Fragments carry no nonce and no script. Below the renderer are pages that are rendered
once for all and filled for each visitor, and the Jinja2 environment all works in: strict,
autoescaping, with the few filters that templates may use.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import CodeType

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

from web.views.accounts import (
    AccountPage,
    AllowPage,
    CodesPage,
    ConfirmAddressPage,
    EnrolPage,
    LeftPage,
    LinkPage,
    LinkSentPage,
    NotMePage,
    OpenLinkPage,
    ProtectedPage,
    ProvePage,
    RecoveryPage,
    RegisterPage,
    SecondPage,
    SignInPage,
    TokenPage,
)
from web.views.chat import ChatView, MessageFragments, MessageView, PresenceView
from web.views.demos import ResultView
from web.views.documents import DocumentPage, HubPage, WorkListPage, WorkPage
from web.views.lab_panels import ConnectionView, LabMailView, LabSignInView, SagaView
from web.views.letters import FailureFacts, FailuresPage, LetterPage, LettersPage, LostList
from web.views.moderation import (
    ActsPage,
    AuditPage,
    ModerationPage,
    OutsidePage,
    OverviewPage,
    OverviewView,
    QueueView,
    SignInsPage,
    TracePage,
    TracesPage,
)
from web.views.nodes import NodesView
from web.views.pages import (
    ErrandsPage,
    ErrorPage,
    ErrorView,
    FrameWords,
    HomePage,
    LabPage,
    MailPreviewsPage,
    MemberView,
    PanelPage,
    ProofView,
    Shell,
    StillView,
    StreamView,
)
from web.views.stage import ChipView, InspectorView, PulseView, StageState, StoryView
from web.views.static import StaticTable
from web.views.timeline import FlowView, TimelineView
from web.views.tree import Branch, CountView, CrashTarget, CrashView, LastedView, NodeView
from web.views.words import csrf_token, dsid, element_id, nonce

TEMPLATES = Path(__file__).with_name("templates")

MESSAGE_LIST = "fragments/message_list.html"
# The tree and the two lists of what everybody sees; and of some who see messages of their own.
PARTS_KEPT_MAX = 12
# Home and the lab for who wrote nothing, in the states of this moment; some 60 KB each, and a fifth
# of that compressed.
PAGES_KEPT_MAX = 12
# The documents for guests, all of them, and for members what they read; some 5 MB at most.
DOCUMENTS_KEPT_MAX = 64

# Guests' names are of one length; of members' those that come most often.
LENGTHS_KEPT_MAX = 4
# As far back as a packed piece can refer.
_BEFORE_BYTES = 32_768

# What packs a piece, and what was just before it, zeros where it is not known.
Pack = Callable[[bytes, bytes], bytes]

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


class Renderer:
    """Call this once at start-up; every template is compiled here, so a broken one stops us.

    `filled` gives the same pages as `home_page`, `lab_page` and `document_page`, and renders them
    only when what all visitors see of them has changed.

    Raises `jinja2.TemplateError` for a broken template.
    """

    def __init__(self, static: StaticTable) -> None:
        self._environment: Environment = make_environment(static)
        # Those that others import too, else the first visitor waits until they are compiled.
        for name in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(name)
        # What was looked at last comes last.
        self._parts: dict[tuple[int, str, object], tuple[object, Markup]] = {}
        self.filled = FilledPages(self.home_page, self.lab_page, self.document_page)

    def _render(self, name: str, **values: object) -> str:
        return self._environment.get_template(name).render(**values)

    def home_page(self, page: HomePage) -> str:
        """Call this to render `/`; its stage is rendered once for many."""
        stage = self._part(page.stage, "fragments/stage.html", stage=page.stage)
        return self._render("home.html", page=page, shell=page.shell, stage=stage)

    def lab_page(self, page: LabPage) -> str:
        """Call this to render `/lab`; what is the same on many pages is rendered once for them."""
        messages, root = page.chat.messages, page.tree.root
        parts = {
            "stage": self._part(page.stage, "fragments/stage.html", stage=page.stage),
            "tree": self._part(root, "fragments/tree.html", root=root),
            "lists": self.chat_lists(messages),
        }
        return self._render("lab.html", page=page, shell=page.shell, parts=parts)

    def chat_lists(self, messages: tuple[MessageView, ...]) -> dict[str, Markup]:
        """Call this for the lists of both panes, for a page that includes the chat's panel."""
        return {
            pane: self._part(messages, MESSAGE_LIST, messages=messages, pane=pane)
            for pane in ("you", "demo")
        }

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

    def documents_hub(self, page: HubPage) -> str:
        """Call this to render `/docs`."""
        return self._render("documents.html", page=page, shell=page.shell)

    def document_page(self, page: DocumentPage) -> str:
        """Call this to render a page of the documents."""
        return self._render("document.html", page=page, shell=page.shell)

    def work_list(self, page: WorkListPage) -> str:
        """Call this to render `/work`."""
        return self._render("works.html", page=page, shell=page.shell)

    def work_page(self, page: WorkPage) -> str:
        """Call this to render the page of a mechanism, with the panel it shows."""
        messages = page.lab.chat.messages
        lists = {
            pane: self._part(messages, MESSAGE_LIST, messages=messages, pane=pane)
            for pane in ("you", "demo")
        }
        return self._render("work.html", page=page, shell=page.shell, lists=lists)

    def sign_in_page(self, page: SignInPage) -> str:
        """Call this to render `/login`."""
        return self._render("login.html", page=page, shell=page.shell)

    def link_page(self, page: LinkPage) -> str:
        """Call this to render `/login/link`, where a link is asked for."""
        return self._render("link.html", page=page, shell=page.shell)

    def link_sent_page(self, page: LinkSentPage) -> str:
        """Call this to render `/login/link`, behind the form."""
        return self._render("link_sent.html", page=page, shell=page.shell)

    def open_link_page(self, page: OpenLinkPage) -> str:
        """Call this to render `/login/link/open`."""
        return self._render("link_open.html", page=page, shell=page.shell)

    def not_me_page(self, page: NotMePage) -> str:
        """Call this to render `/account/not-me`."""
        return self._render("not_me.html", page=page, shell=page.shell)

    def recovery_page(self, page: RecoveryPage) -> str:
        """Call this to render `/login/recovery` and what the mails of one lead to."""
        return self._render("recovery.html", page=page, shell=page.shell)

    def left_page(self, page: LeftPage) -> str:
        """Call this to render `/logout/<provider>`."""
        return self._render("left.html", page=page, shell=page.shell)

    def allow_page(self, page: AllowPage) -> str:
        """Call this to render `/account/allow`."""
        return self._render("allow.html", page=page, shell=page.shell)

    def confirm_address_page(self, page: ConfirmAddressPage) -> str:
        """Call this to render `/account/address/confirm`."""
        return self._render("confirm_address.html", page=page, shell=page.shell)

    def second_page(self, page: SecondPage) -> str:
        """Call this to render what asks for a second factor."""
        return self._render("second.html", page=page, shell=page.shell)

    def enrol_page(self, page: EnrolPage) -> str:
        """Call this to render the secret that an app is to take."""
        return self._render("enrol.html", page=page, shell=page.shell)

    def codes_page(self, page: CodesPage) -> str:
        """Call this to render recovery codes."""
        return self._render("codes.html", page=page, shell=page.shell)

    def token_page(self, page: TokenPage) -> str:
        """Call this to render an API token, this once."""
        return self._render("token.html", page=page, shell=page.shell)

    def register_page(self, page: RegisterPage) -> str:
        """Call this to render `/register`."""
        return self._render("register.html", page=page, shell=page.shell)

    def protected_page(self, page: ProtectedPage) -> str:
        """Call this to render `/protected`."""
        return self._render("protected.html", page=page, shell=page.shell)

    def prove_page(self, page: ProvePage) -> str:
        """Call this to render `/account/prove`."""
        return self._render("prove.html", page=page, shell=page.shell)

    def account_page(self, page: AccountPage) -> str:
        """Call this to render `/account`."""
        return self._render("account.html", page=page, shell=page.shell)

    def demo_page(self, page: PanelPage) -> str:
        """Call this to render what a panel has found out, as a page of its own."""
        return self._render("demo.html", page=page, shell=page.shell)

    def errands_page(self, page: ErrandsPage) -> str:
        """Call this to render what a browser without scripts has running."""
        return self._render("errands.html", page=page, shell=page.shell)

    def demo_panel(self, result: ResultView) -> str:
        """Call this to render what a panel has found out (`#demo-<name>-result`, outer)."""
        return self._render("fragments/demo_panel.html", result=result)

    def moderation_page(self, page: ModerationPage) -> str:
        """Call this to render the queue of what waits for review."""
        return self._render("moderation.html", page=page, shell=page.shell)

    def audit_page(self, page: AuditPage) -> str:
        """Call this to render what was done in the rooms."""
        return self._render("audit.html", page=page, shell=page.shell)

    def sign_ins_page(self, page: SignInsPage) -> str:
        """Call this to render who is signed in, for an operator."""
        return self._render("operated_sign_ins.html", page=page, shell=page.shell)

    def outside_page(self, page: OutsidePage) -> str:
        """Call this to render what is called outside, for an operator."""
        return self._render("outside.html", page=page, shell=page.shell)

    def letters_page(self, page: LettersPage) -> str:
        """Call this to render which dead letters there are, for an operator."""
        return self._render("letters.html", page=page, shell=page.shell)

    def failures_page(self, page: FailuresPage) -> str:
        """Call this to render what failed, for a visitor of the lab."""
        return self._render("lab_failures.html", page=page, shell=page.shell)

    def failure_facts(self, facts: FailureFacts) -> str:
        """Call this to render what all see of failures (`#failures-facts`, outer)."""
        return self._render("fragments/failure_facts.html", facts=facts)

    def failures_lost(self, lost: LostList) -> str:
        """Call this to render what a sandbox lost (`#failures-lost`, outer)."""
        return self._render("fragments/failures_lost.html", lost=lost)

    def letter_page(self, page: LetterPage) -> str:
        """Call this to render all that is kept of one dead letter, for an operator."""
        return self._render("letter.html", page=page, shell=page.shell)

    def traces_page(self, page: TracesPage) -> str:
        """Call this to render a list of traces, for an operator or for whose they are."""
        return self._render("traces.html", page=page, shell=page.shell)

    def trace_page(self, page: TracePage) -> str:
        """Call this to render one trace as a tree."""
        return self._render("trace.html", page=page, shell=page.shell)

    def overview_page(self, page: OverviewPage) -> str:
        """Call this to render the running site as an operator sees it."""
        return self._render("overview.html", page=page, shell=page.shell)

    def overview(self, view: OverviewView) -> str:
        """Call this to render its figures anew (`#overview`, outer)."""
        return self._render("fragments/overview.html", view=view)

    def acts_page(self, page: ActsPage) -> str:
        """Call this to render what was done with accounts, for an operator."""
        return self._render("acts.html", page=page, shell=page.shell)

    def moderation_queue(self, view: QueueView) -> str:
        """Call this to render the queue for one moderator (`#moderation-queue`, outer)."""
        return self._render("fragments/moderation_queue.html", view=view)

    def moderation_badge(self, count: int) -> str:
        """Call this to render how many wait (`#moderation-badge`, outer)."""
        return self._render("fragments/moderation_badge.html", count=count)

    def mail_previews_page(self, page: MailPreviewsPage) -> str:
        """Call this to render `/dev/mail`."""
        return self._render("mail_previews.html", page=page, shell=page.shell)

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

    def withdrawn_message(self, message: MessageView) -> str:
        """Call this to render, for its author, that a message was taken away; patch it as it is.

        Both panes at once (`#chat-<pane>-<id>`, outer).
        """
        return self._render("fragments/message_withdrawn.html", message=message)

    def chat_window(self, messages: tuple[MessageView, ...]) -> str:
        """Call this to render both panes' whole lists; patch them as they are (by id, outer)."""
        return self._render("fragments/chat_window.html", messages=messages)

    def chat_presence(self, presence: PresenceView) -> str:
        """Call this to render who is in the room (`#chat-presence`, outer)."""
        return self._render("fragments/chat_presence.html", presence=presence)

    def chat_history(self, messages: tuple[MessageView, ...], *, has_older: bool) -> str:
        """Call this to render messages of before, for both panes (`#chat-<pane>-older`, outer)."""
        return self._render("fragments/chat_history.html", messages=messages, has_older=has_older)

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

    def lasted(self, lasted: LastedView | None) -> str:
        """Call this to render what the rooms survived over all runs (`#lasted`, outer)."""
        return self._render("fragments/lasted.html", lasted=lasted)

    def nodes(self, nodes: NodesView) -> str:
        """Call this to render who serves the site together (`#nodes`, outer)."""
        return self._render("fragments/nodes.html", nodes=nodes)

    def crash_button(self, target: CrashTarget) -> str:
        """Call this to render what crashes an actor (`#crash-button`, outer)."""
        return self._render("fragments/crash_button.html", target=target)

    def stage_chip(self, one: ChipView, level: int) -> str:
        """Call this to render an actor of the stage (`#chip-<place>`, outer).

        `level` counts from 1 for the root.
        """
        return self._render("fragments/stage_chip.html", one=one, level=level)

    def stage_story(self, one: StoryView) -> str:
        """Call this to render a crash as far as it has come (`#story-<slot>`, outer)."""
        return self._render("fragments/stage_story.html", one=one)

    def story_slots(self, slots: Iterable[int]) -> str:
        """Call this to render places of stories without one (`#story-<slot>` each, outer)."""
        return self._render("fragments/story_slots.html", slots=tuple(slots))

    def stage_pulse(self, one: PulseView) -> str:
        """Call this to render the newest half second, for scripts (`#pulse`, outer)."""
        return self._render("fragments/stage_pulse.html", one=one)

    def lab_connections(self, rows: Sequence[ConnectionView]) -> str:
        """Call this to render what a session has open (`#connections-list`, outer)."""
        return self._render("fragments/lab_connections.html", rows=rows)

    def lab_sign_ins(self, rows: Sequence[LabSignInView], mails: Sequence[LabMailView] = ()) -> str:
        """Call this to render a member's sign-ins and mails (`#sign-ins-list`, outer)."""
        return self._render("fragments/lab_sign_ins.html", rows=rows, mails=mails)

    def lab_sagas(self, rows: Sequence[SagaView], now: datetime, ahead_h: int = 0) -> str:
        """Call this to render a visitor's sagas (`#sagas-list`, outer).

        `ahead_h`: by how many hours their clock is ahead.
        """
        return self._render("fragments/lab_sagas.html", rows=rows, now=now, ahead_h=ahead_h)

    def stage_state(self, state: StageState) -> str:
        """Call this to render what a visitor may do (`#stage-state`, outer)."""
        return self._render("fragments/stage_state.html", state=state)

    def stage_inspector(self, one: InspectorView | None) -> str:
        """Call this to render one actor in detail, or none (`#inspector-body`, outer)."""
        return self._render("fragments/stage_inspector.html", one=one)

    def still_flows(self, flows: Sequence[FlowView]) -> Markup:
        """Call this to render a visitor's newest requests for a page without scripts."""
        return Markup(self._render("fragments/still_flows.html", flows=flows))

    def timeline(self, timeline: TimelineView) -> str:
        """Call this to render the flows and the chosen one (`#operations-flows`,
        `#network-log-target`, both outer).
        """
        return self._render("fragments/timeline_parts.html", timeline=timeline)

    def error_fragment(self, error: ErrorView) -> str:
        """Call this to render a failure into an open page (`#error-fragment`, outer)."""
        return self._render("fragments/error.html", error=error)


# -- pages that are filled -----------------------------------------------------------------------
#
# Rule 1: a mark is random for each process and never leaves it. What people write can therefore not
#         hold one, and would otherwise be taken for a place to fill.
# Rule 2: a word is escaped as the template would have escaped it; what goes into attributes is of a
#         kind that needs no escape (`words.py`), and is checked when its view is made.
# Rule 3: what a template does with a word but to print it (a filter, a condition) would be done to
#         the mark. `tests/web/views/test_view_filling.py` compares filled pages with rendered ones.

# 128 bits, as a nonce has: nobody guesses one. Letters and digits only, so nothing escapes it.
_MARKS = secrets.token_hex(16)


def _mark(number: int) -> str:
    # Of one length, so that none is the beginning of another.
    return f"{_MARKS}{number:02d}"


_CUT = re.compile(rf"{_MARKS}([0-9]{{2}})")


class Filling:
    """A page with holes."""

    __slots__ = ("_holes", "_packed", "_pieces")

    def __init__(self, html: str) -> None:
        parts = _CUT.split(html)
        # A piece, the number of its hole, a piece, and so on.
        self._holes = [(at, int(parts[at])) for at in range(1, len(parts), 2)]
        self._pieces = [part.encode() for part in parts]
        # By the lengths of the words: pieces refer to pieces before them, over the holes.
        self._packed: dict[tuple[int, ...], list[bytes]] = {}

    def filled(self, words: Sequence[bytes]) -> bytes:
        """Call this with the words in the order of their marks."""
        return self._joined(self._pieces, words)

    def packed(self, words: Sequence[bytes], pack: Pack) -> bytes:
        """Call this for the same, packed: pieces once for all words of these lengths.

        Words are packed by themselves: of what is one visitor's, nothing is compressed with
        anything (SEC-32).
        """
        lengths = tuple(map(len, words))
        # What was asked for last comes last.
        packed = self._packed.pop(lengths, None) or self._chained(lengths, pack)
        self._packed[lengths] = packed
        if len(self._packed) > LENGTHS_KEPT_MAX:
            del self._packed[next(iter(self._packed))]
        return self._joined(packed, [pack(word, b"") for word in words])

    def _chained(self, lengths: Sequence[int], pack: Pack) -> list[bytes]:
        holes, packed, before = dict(self._holes), [], b""
        for at, piece in enumerate(self._pieces):
            if at in holes:
                packed.append(b"")
                before += bytes(lengths[holes[at]])
            else:
                # A zero could be taken for one that stands for a word.
                packed.append(pack(piece, b"" if 0 in piece else before))
                before += piece
            before = before[-_BEFORE_BYTES:]
        return packed

    def _joined(self, pieces: list[bytes], words: Sequence[bytes]) -> bytes:
        pieces = pieces.copy()
        for at, number in self._holes:
            pieces[at] = words[number]
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class FilledPage:
    """A page and the words of one visitor, to be sent as it is or compressed."""

    filling: Filling
    words: Sequence[bytes]

    def body(self) -> bytes:
        """Call this for the page."""
        return self.filling.filled(self.words)

    def packed(self, pack: Pack) -> bytes:
        """Call this for the page in pieces that `pack` has packed.

        `pack` is always the same function: what all visitors see is packed by it once for words of
        one length.
        """
        return self.filling.packed(self.words, pack)


@dataclass(frozen=True, slots=True)
class _Kept:
    # What the page was made of: as long as it is held here, nothing else has its identity.
    shown: tuple[object, ...]
    filling: Filling


class _Shelf:
    """The pages of one kind that were looked at last."""

    def __init__(self, room: int) -> None:
        self._room = room
        # What was looked at last comes last.
        self._kept: dict[tuple[object, ...], _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def maybe(self, key: tuple[object, ...]) -> Filling | None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        self._kept[key] = kept
        return kept.filling

    def keep(self, key: tuple[object, ...], shown: tuple[object, ...], html: str) -> Filling:
        filling = Filling(html)
        self.put(key, shown, filling)
        return filling

    def put(self, key: tuple[object, ...], shown: tuple[object, ...], filling: Filling) -> None:
        self._kept[key] = _Kept(shown, filling)
        while len(self._kept) > self._room:
            del self._kept[next(iter(self._kept))]


class FilledPages:
    """Keeps the newest pages, rendered by the given functions.

    A page is the same for all who look at the same things, but for a few words: its nonce, its tab,
    the visitor's name, the ids and the token of its forms. So it is rendered once with marks in the
    places of these words, cut at the marks, and a visitor's page is the pieces with their words
    between them. Templates know nothing of it: they are given marks where they are otherwise given
    words.
    """

    def __init__(
        self,
        render_home: Callable[[HomePage], str],
        render_lab: Callable[[LabPage], str],
        render_document: Callable[[DocumentPage], str],
    ) -> None:
        self._render_home, self._render_lab = render_home, render_lab
        self._render_document = render_document
        self._kept, self._documents = _Shelf(PAGES_KEPT_MAX), _Shelf(DOCUMENTS_KEPT_MAX)
        # The same fillings as in `_kept`, by what is known before a frame is made.
        self._frameless = _Shelf(PAGES_KEPT_MAX)

    def __len__(self) -> int:
        return len(self._kept) + len(self._documents)

    def maybe_home(self, known: tuple[object, ...], words: FrameWords) -> FilledPage | None:
        """Call this for `/` before its view is made; None where it has to be.

        `known` are the very objects that decide what all see of it, its frame included.
        """
        kept = self._frameless.maybe(tuple(map(id, known)))
        return None if kept is None else FilledPage(kept, _encoded(words))

    def new_home(self, known: tuple[object, ...], page: HomePage) -> FilledPage:
        """Call this for `/` where `maybe_home` had none: it has until something of it changes."""
        found = self.home(page)
        self._frameless.put(tuple(map(id, known)), known, found.filling)
        return found

    def home(self, page: HomePage) -> FilledPage:
        """Call this for `/`."""
        # By identity, as with the lab: these are the same objects as long as they look the same.
        shown = page.code, page.stage, page.measured, page.doorways, page.proof
        key = ("home", *map(id, shown), *_alike(page.shell))
        kept = self._kept.maybe(key)
        if kept is None:
            marked = replace(page, shell=_marked(page.shell))
            kept = self._kept.keep(key, shown, self._render_home(marked))
        return FilledPage(kept, _words(page.shell))

    def lab(self, page: LabPage) -> FilledPage:
        """Call this for `/lab`."""
        chat = page.chat
        # The trees and the messages by identity: comparing them would cost what this saves.
        shown = page.tree, chat.messages, page.stage, page.panels
        panel = chat.room, chat.demo_name, chat.has_older, chat.is_newest
        key = ("lab", *map(id, shown), *panel, *_alike(page.shell))
        kept = self._kept.maybe(key)
        if kept is None:
            marked = replace(
                page,
                shell=_marked(page.shell),
                chat=_marked_chat(chat),
                count=_COUNT,
                still=StillView(Markup(_FLOWS), _OPEN, _TOKENS),
            )
            kept = self._kept.keep(key, shown, self._render_lab(marked))
        words = (
            *(chat.tab_id, chat.client_id, chat.demo_client_id, chat.csrf, page.count),
            *(page.still.flows, page.still.open_count, page.still.tokens),
        )
        own = [escape(chat.you_name).encode(), *[word.encode() for word in words]]
        return FilledPage(kept, _words(page.shell) + own)

    def document(self, page: DocumentPage) -> FilledPage:
        """Call this for a page of the documents; its `html` is the same object every time."""
        key = ("document", id(page.html), *_alike(page.shell))
        kept = self._documents.maybe(key)
        if kept is None:
            marked = replace(page, shell=_marked(page.shell))
            kept = self._documents.keep(key, (page.html,), self._render_document(marked))
        return FilledPage(kept, _words(page.shell))


# The order of the marks: first what every page has, then what the panels of the lab have.
_NONCE, _NAME, _TAB, _VIEWER, _SIGN_OUT = map(_mark, range(5))
_YOU, _CHAT_TAB, _CLIENT, _DEMO_CLIENT, _CSRF, _COUNT = map(_mark, range(5, 11))
_FLOWS, _OPEN, _TOKENS = map(_mark, range(11, 14))


def _words(shell: Shell) -> list[bytes]:
    stream, member = shell.stream, shell.member
    tab, viewer = (None, None) if stream is None else (stream.tab_id, stream.viewer)
    sign_out = None if member is None else member.csrf
    return _encoded(FrameWords(shell.nonce, shell.viewer_name, tab, viewer, sign_out))


def _encoded(words: FrameWords) -> list[bytes]:
    own_nonce, name, tab, viewer, sign_out = words
    return [
        word.encode() for word in (own_nonce, escape(name), tab or "", viewer or "", sign_out or "")
    ]


def _alike(shell: Shell) -> tuple[object, ...]:
    """Give what the frame shows to all: everything else of it is a word."""
    stream, member = shell.stream, shell.member
    live = None if stream is None else (stream.room, stream.viewer is None)
    entry = (shell.sign_in, shell.register, None if member is None else (member.account,))
    shared = shell.queue, shell.summary, shell.origin, shell.documents, shell.licence
    return shell.title, shell.page, shell.nav, shell.version, live, entry, shared


def _marked(shell: Shell) -> Shell:
    stream, member = shell.stream, shell.member
    if stream is not None:
        viewer = stream.viewer and element_id(_VIEWER)
        stream = StreamView(element_id(_TAB), stream.room, viewer)
    if member is not None:
        member = MemberView(csrf_token(_SIGN_OUT), member.account)
    return replace(shell, nonce=nonce(_NONCE), viewer_name=_NAME, stream=stream, member=member)


def _marked_chat(chat: ChatView) -> ChatView:
    return replace(
        chat,
        you_name=_YOU,
        tab_id=element_id(_CHAT_TAB),
        client_id=element_id(_CLIENT),
        demo_client_id=element_id(_DEMO_CLIENT),
        csrf=csrf_token(_CSRF),
    )


# -- the environment of the templates ------------------------------------------------------------


# Of a template's own text; what is filled in comes as it is.
_INDENTATION = re.compile(r"\n[ \t]+")


class _Templates(FileSystemLoader):
    """Templates as they are sent: what indents their lines is for who reads them here."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:
        source, file, is_current = super().get_source(environment, template)
        return _INDENTATION.sub("\n", source), file, is_current


class _CompiledTemplates(BytecodeCache):
    """What this process has compiled: whoever opens several sites waits for the templates once."""

    def __init__(self) -> None:
        # By template and by what stands in it: as many as there are files.
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._codes[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _CompiledTemplates()


def make_environment(static: StaticTable) -> Environment:
    """Call this to get an environment whose `static_url` gives the addresses of `static`."""
    environment = Environment(
        loader=_Templates(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
    )
    environment.filters["dsid"] = dsid
    environment.filters["grouped"] = grouped
    environment.filters["milliseconds"] = milliseconds
    environment.filters["duration"] = duration
    environment.filters["iso"] = iso
    environment.filters["clock"] = clock
    environment.filters["day"] = day
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


def day(at: datetime) -> str:
    """Call this to write a UTC time with its day: `21 November 2026, 08:14 UTC`."""
    return f"{at.day} {at.strftime('%B %Y, %H:%M UTC')}"
