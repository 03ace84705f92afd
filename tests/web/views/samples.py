"""Sample view models for these tests, and a small reader of rendered HTML."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html.parser import HTMLParser

from markupsafe import Markup

from web.views import (
    AccountPage,
    ActorStatus,
    ActsPage,
    ActView,
    AllowPage,
    ArrowView,
    Branch,
    ChatView,
    ChipView,
    CodesPage,
    ConfirmAddressPage,
    CountView,
    CrashTarget,
    CrashView,
    Decision,
    DeviceView,
    DiagramView,
    DocumentFolder,
    DocumentLink,
    DocumentPage,
    Doorway,
    EnrolPage,
    ErrandsPage,
    ErrorPage,
    ErrorView,
    EventView,
    ExitView,
    FactorsView,
    FoundView,
    GroupLagView,
    GuaranteeView,
    HomePage,
    HubPage,
    InspectorView,
    LabPage,
    LeftPage,
    LinkedView,
    LinkPage,
    LinkSentPage,
    MailPreview,
    MailPreviewsPage,
    MeasuredView,
    MechanismView,
    MemberView,
    MessageState,
    MessageView,
    NavLink,
    NodesView,
    NodeView,
    NotMePage,
    OpenLinkPage,
    OperatedSignIn,
    OutsidePage,
    OutsideView,
    PairView,
    PanelPage,
    PanelView,
    PasskeyView,
    PathView,
    PictureView,
    ProofView,
    ProtectedPage,
    ProvePage,
    ProviderLink,
    ProvidersView,
    RecoveryForm,
    RecoveryPage,
    RegisterPage,
    Renderer,
    RestartWindow,
    ResultView,
    SearchView,
    SecondPage,
    ShardMoveView,
    Shell,
    SignInPage,
    SignInsPage,
    SignInView,
    SiteNodeView,
    SpanView,
    Speaker,
    StageAccess,
    StageState,
    StageView,
    StaticTable,
    StepOfPath,
    StepView,
    StoryView,
    StrategyBadge,
    StreamView,
    TokenPage,
    TokenView,
    TopicLagView,
    TracePage,
    TracesPage,
    TraceView,
    TreeView,
    WorkListPage,
    WorkPage,
    csrf_token,
    element_id,
    form_ticket,
    local_path,
    nonce,
    otpauth_link,
    rp_id,
    sample_code,
    svg_path,
    table,
)
from web.views.letters import (
    FailureFacts,
    FailuresPage,
    LetterChangeView,
    LetterPage,
    LetterRow,
    LettersCount,
    LettersPage,
    LostLetterView,
    LostList,
    LostView,
    RunView,
)
from web.views.moderation import (
    BreakerView,
    HotActor,
    Lagging,
    OverviewView,
    StatementsView,
    StatementView,
)

AT = datetime(2026, 11, 21, 8, 14, 5, tzinfo=UTC)
NONCE = nonce("n0nce-n0nce-n0nce-n0nce-0")
TAB = "0199aa11-2222-7333-8444-555566667777"
REQUEST = "0199aa11-2222-7333-8444-5555666600ff"
FILES = {
    "app.css": b"body{}",
    "chat.css": b"main{}",
    "chat.js": b"0",
    "app.js": b"1;",
    "copy.js": b"1;",
    "docs.css": b"body{}",
    "docs.js": b"1;",
    "learn.js": b"1;",
    "home.css": b"body{}",
    "home.js": b"1;",
    "lab.css": b"body{}",
    "lab_chat.css": b"body{}",
    "lab_chat.js": b"0",
    "live.js": b"0",
    "lab.js": b"1;",
    "connection.js": b"1;",
    "demos.css": b"a{}",
    "forms.css": b"a{}",
    "crash.js": b"1;",
    "inspector.css": b"a{}",
    "flows.js": b"1;",
    "tree.css": b"a{}",
    "tree.js": b"1;",
    "demos.js": b"1;",
    "datastar.js": b"2;",
    "favicon.ico": b"icon",
    "timeline.css": b"a{}",
    "panels.css": b"a{}",
    "burst.js": b"let a",
    "panels.js": b"let a",
    "passkeys.js": b"1;",
    "work.css": b"body{}",
    "favicon.svg": b"<svg/>",
    "og.png": b"png",
}

# Elements that have no end tag.
_VOID = {"meta", "link", "input", "br", "img", "path", "circle"}

Attributes = tuple[tuple[str, str | None], ...]


@dataclass
class Page(HTMLParser):
    """What a browser would see: elements with attributes in order, and all text."""

    elements: list[tuple[str, Attributes]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        self.depth += tag not in _VOID

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag not in _VOID

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        """Every value of attribute `name`, in document order."""
        return [value or "" for _, attrs in self.elements for key, value in attrs if key == name]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def read(html: str) -> Page:
    """Parse `html` as far as these tests need it."""
    page = Page()
    page.feed(html)
    page.close()
    return page


def static() -> StaticTable:
    return table(FILES)


def renderer() -> Renderer:
    return Renderer(static())


def shell(
    *, viewer_name: str = "Quiet Heron 42", page: str = "lab", has_stream: bool = True
) -> Shell:
    return Shell(
        title="Lab",
        page=element_id(page),
        nonce=NONCE,
        nav=(
            NavLink(local_path("/"), "Home"),
            NavLink(local_path("/lab"), "Lab", is_current=True),
        ),
        viewer_name=viewer_name,
        version="0.1.0",
        stream=StreamView(element_id(TAB), element_id("Lobby")) if has_stream else None,
    )


def message(
    number: int = 1,
    *,
    author: str = "Quiet Heron 42",
    body: str = "Hello",
    state: MessageState = MessageState.VISIBLE,
    speaker: Speaker = Speaker.OTHER,
) -> MessageView:
    identity = element_id(f"0199aa11-2222-7333-8444-{number:012d}")
    return MessageView(identity, number, author, body, AT, state, speaker)


def chat(*messages: MessageView, you_name: str = "Quiet Heron 42") -> ChatView:
    return ChatView(
        room=element_id("Lobby"),
        you_name=you_name,
        demo_name="Demo Bot",
        messages=messages,
        tab_id=element_id(TAB),
        client_id=element_id("0199aa11-2222-7333-8444-00000000000a"),
        demo_client_id=element_id("0199aa11-2222-7333-8444-00000000000b"),
        csrf=csrf_token("abc.DEF-1_2"),
    )


def node(
    name: str,
    *,
    identity: str | None = None,
    kind: str = "RoomActor",
    status: ActorStatus = ActorStatus.RUNNING,
    incarnation: int = 1,
    strategy: StrategyBadge | None = None,
    last_exit: str | None = None,
) -> NodeView:
    return NodeView(
        id=element_id(identity or name),
        name=name,
        kind=kind,
        status=status,
        incarnation=incarnation,
        restarts=incarnation - 1,
        queued=0,
        capacity=None if strategy else 1024,
        strategy=strategy,
        window=RestartWindow(0, 5, 10.0) if strategy else None,
        last_exit=last_exit,
    )


def root(lobby: NodeView | None = None) -> Branch:
    rooms = node("rooms", kind="supervisor", strategy=StrategyBadge.DYNAMIC)
    streams = node("streams", kind="supervisor", strategy=StrategyBadge.DYNAMIC)
    return Branch(
        node("site", kind="supervisor", strategy=StrategyBadge.ONE_FOR_ONE),
        (
            Branch(rooms, (Branch(lobby or node("Lobby")), Branch(node("Support")))),
            Branch(streams, (CountView(element_id("streams-count"), "stream actors", 37),)),
        ),
    )


def crash(*, cause: str = "PlantedCrash", is_back: bool = True) -> CrashView:
    return CrashView(
        name="Lobby",
        cause=cause,
        supervisor="rooms",
        strategy=StrategyBadge.DYNAMIC,
        decision=Decision.RESTART,
        at=AT,
        restart_ms=1.84 if is_back else None,
        incarnation=2 if is_back else None,
    )


def proof() -> ProofView:
    return ProofView(143, 12, 48211, 7, 1.84, 11520)


def lab(*messages: MessageView, is_breakable: bool = True) -> LabPage:
    target = CrashTarget(element_id("Lobby"), "the Lobby room") if is_breakable else None
    tree = TreeView(root(), AT, target, crash(), nodes=nodes())
    return LabPage(shell(), tree, chat(*messages), stage(), panels(), "7")


def nodes() -> NodesView:
    here = SiteNodeView("a", "up", "up", 64, 5, 0, "1.0", is_this=True)
    there = SiteNodeView(
        "b<b>", "up", "down", 63, 4, 3, "1.0",
        round_trip_ms=1.9, window_percent=7, waiting=2, delivered=12_000, lost=1,
    )  # fmt: skip
    moves = ShardMoveView(3, None, "a"), ShardMoveView(4, "b<b>", "a", is_under_way=True)
    topics = TopicLagView("order-events", 1200, 7), TopicLagView("other-events", 34, 9)
    groups = GroupLagView("mail", 2, topics), GroupLagView("s<b>", 0, (TopicLagView("t", 0, 0),))
    return NodesView(
        (here, there), 128, 1, moves, 34, True, "127.0.0.1:4222", "2.11.3", 9, groups
    )  # fmt: skip


def panels() -> tuple[PanelView, ...]:
    choices = "demo@example.com", "missing@example.com"
    return (
        PanelView(element_id("ping"), "Ping"),
        PanelView(element_id("db-check"), "Database", choices),
    )


def found(name: str = "db-check", value: str = "demo@example.com") -> ResultView:
    event = EventView(AT, "backend", "db.query", "debug", (PairView("statement", value),))
    return ResultView(element_id(name), (PairView("address", value),), (event,))


def demo(value: str = "demo@example.com") -> PanelPage:
    back = local_path("/lab")
    return PanelPage(shell(), panels(), "Database", found(value=value), back)


def errands(status: str = "running #1") -> ErrandsPage:
    return ErrandsPage(
        shell=shell(has_stream=False),
        at=AT,
        message="Working on #1 …",
        status=status,
        counts="started 1, cancelled 0, finished 0",
        run_s=10,
        tab_id=element_id(TAB),
        command_id=element_id("0199aa11-2222-7333-8444-00000000000c"),
        csrf=csrf_token("token"),
        back=local_path("/lab"),
    )


def chip(place: str = "feed-sink", above: str | None = "feed", name: str = "sink") -> ChipView:
    parent = None if above is None else element_id(above)
    return ChipView(element_id(place), parent, name, "Sink", ActorStatus.RUNNING, capacity=1024)


def supervisor(place: str, above: str | None, used: int = 0) -> ChipView:
    window = RestartWindow(used, 3, 5.0)
    one = StrategyBadge.REST_FOR_ONE
    return replace(chip(place, above, place), strategy=one, window=window, kind="Supervisor")


def stage() -> StageView:
    state = StageState(StageAccess.SHARED, 30, 30)
    return StageView((supervisor("desk", None), supervisor("feed", "desk", 2), chip()), state)


def story(
    cause: str = "CrashedOnPurpose: somebody pressed Crash",
    line: str = "feed restarts it and those after it (also sink)",
) -> StoryView:
    words = "exit raised", "supervisor told", "decided", "instance made", "on_start", "running"
    steps = tuple(StepView(word, 40 * number) for number, word in enumerate(words))
    return StoryView(
        23, element_id("feed-router"), "router", cause, "feed", (cause, "ShelfFell: the left one"),
        StrategyBadge.REST_FOR_ONE, Decision.RESTART_REST, (element_id("feed-sink"),),
        steps, 3, 1, 0, None, 200, line=line,
    )  # fmt: skip


def inspector(text: str = "sink") -> InspectorView:
    exits = ExitView("crashed", text, 1, 12, text, "desk/feed", (text, text))
    row = ((text, text),)
    return InspectorView(chip(name=text), "desk/feed/sink", 12, row, row, row, (exits,))


CODE, STAGE = sample_code(), stage()


def home() -> HomePage:
    return HomePage(shell(page="home"), proof(), CODE, STAGE, MEASURED, WAYS)


MEASURED = (MeasuredView("messages told a second", "547,000", ("118,000", "")),)
WAYS = (Doorway(local_path("/docs/start/one"), "Just arrived", "See it work."),)


def member_shell(page: str = "account", viewer_name: str = "ada") -> Shell:
    """The frame of a member's page."""
    member = MemberView(csrf_token("sign.out-token"), local_path("/account"))
    frame = shell(page=page, has_stream=False, viewer_name=viewer_name)
    return replace(frame, member=member)


def shell_of_member() -> Shell:
    """The frame of a member's page with a stream."""
    return replace(shell(viewer_name="ada"), member=member_shell().member)


def sign_in(email: str = "", /, **problems: str) -> SignInPage:
    return SignInPage(
        shell(page="login", has_stream=False),
        csrf_token("a.token"),
        local_path("/lab"),
        local_path("/register"),
        email,
        problems,
    )


def providers() -> ProvidersView:
    """One that is linked, and one that can be."""
    paths = [f"/account/providers/{name}/link" for name in ("example", "other")]
    unlink = local_path(paths[0].replace("link", "unlink"))
    linked = LinkedView("Example", AT, AT, unlink, local_path(paths[0]))
    return ProvidersView((linked,), (ProviderLink("Other", local_path(paths[1])),))


def link(email: str = "", /, **problems: str) -> LinkPage:
    frame, token = shell(page="login", has_stream=False), csrf_token("a.token")
    return LinkPage(frame, token, local_path("/lab"), local_path("/login"), email, problems)


def link_sent(code: str = "4821 9920") -> LinkSentPage:
    return LinkSentPage(shell(page="login", has_stream=False), code, local_path("/login/link"))


def open_link(token: str = "A" * 43, /, **problems: str) -> OpenLinkPage:
    frame, csrf = shell(page="login", has_stream=False), csrf_token("a.token")
    next_, again = local_path("/lab"), local_path("/login/link")
    return OpenLinkPage(frame, csrf, next_, token, bool(problems), again, problems)


def not_me(token: str = "A" * 200, /, *, is_done: bool = False, **problems: str) -> NotMePage:
    frame, csrf = shell(page="login", has_stream=False), csrf_token("a.token")
    by_link, way = not problems, local_path("/login/link?next=%2Faccount")
    return NotMePage(frame, csrf, token, is_done, by_link, way, problems)


def recovery(
    form: RecoveryForm = RecoveryForm.STOP, token: str = "A" * 200, /, **problems: str
) -> RecoveryPage:
    frame, csrf = shell(page="login", has_stream=False), csrf_token("a.token")
    return RecoveryPage(frame, csrf, form, token, local_path("/login/link"), problems)


def left() -> LeftPage:
    frame = shell(page="login", has_stream=False)
    return LeftPage(frame, "Example", local_path("/logout/example?go=1"))


def allow(token: str = "A" * 200, /, *, is_done: bool = False, **problems: str) -> AllowPage:
    frame, csrf = shell(page="login", has_stream=False), csrf_token("a.token")
    return AllowPage(frame, csrf, token, is_done, local_path("/login?next=%2Faccount"), problems)


def confirm_address(
    token: str = "A" * 200, /, *, is_done: bool = False, **problems: str
) -> ConfirmAddressPage:
    frame, csrf = shell(page="login", has_stream=False), csrf_token("a.token")
    return ConfirmAddressPage(frame, csrf, token, is_done, local_path("/account"), problems)


def registration(username: str = "", /, **problems: str) -> RegisterPage:
    return RegisterPage(
        shell(page="register", has_stream=False),
        csrf_token("a.token"),
        local_path("/lab"),
        local_path("/login"),
        username,
        problems=problems,
    )


def mail_previews(typed: str = "Hello", /) -> MailPreviewsPage:
    whole = local_path("/dev/mail/en/order")
    mails = [MailPreview(name, "en", typed, typed, f"<p>{typed}</p>", whole) for name in "ab"]
    return MailPreviewsPage(shell(page="mail", has_stream=False), tuple(mails))


def protected(username: str = "ada") -> ProtectedPage:
    return ProtectedPage(member_shell("protected", username), username)


def prove(username: str = "ada", /, **problems: str) -> ProvePage:
    frame, token = member_shell("account", username), csrf_token("a.token")
    return ProvePage(
        frame, token, local_path("/account"), username, "ada@example.org", problems=problems
    )


def second(**problems: str) -> SecondPage:
    frame = shell(page="login", has_stream=False)
    token, then = csrf_token("a.token"), local_path("/lab")
    return SecondPage(frame, token, then, form_ticket("a-ticket"), problems=problems)


def enrol(text: str = "GEZD GNBV", /, **problems: str) -> EnrolPage:
    link = otpauth_link("otpauth://totp/greenroom:a%40b?secret=GEZDGNBV")
    frame, token = member_shell("account", "ada"), csrf_token("a.token")
    picture = PictureView(29, svg_path("M4 4h7v1h-7z"))
    return EnrolPage(frame, token, form_ticket("a-ticket"), text, link, picture, problems=problems)


def token(text: str = "nightly build") -> TokenPage:
    return TokenPage(member_shell("account", "ada"), "grt_token", text, AT)


def codes(code: str = "aaaa-bbbb") -> CodesPage:
    return CodesPage(member_shell("account", "ada"), (code, "cccc-dddd"))


def operated(text: str = "ada") -> SignInsPage:
    sign_ins = tuple(
        OperatedSignIn(element_id(f"sign-in-{n}"), text, "Firefox on Linux", text, AT, AT, n == 0)
        for n in range(2)
    )
    return SignInsPage(
        member_shell("operators", "ada"), csrf_token("a.token"), "ada", sign_ins, ended=2
    )


def outside(name: str = "mail") -> OutsidePage:
    found = tuple(
        OutsideView(name, state, 42, 10, 5, 50, 3, 2, 1, 0)
        for state in ("closed", "open", "half_open")
    )
    return OutsidePage(member_shell("operators", "ada"), csrf_token("a.token"), found, name)


def letter_row(text: str = "ada") -> LetterRow:
    return LetterRow(1, "pending", text, text, 2, AT, text, local_path("/ops/dead/1"))


def letters(text: str = "ada") -> LettersPage:
    return LettersPage(
        member_shell("operators", "ada"),
        csrf_token("a.token"),
        {"status": "pending", "kind": text, "source": text},
        ("pending", "resolved"),
        ("outbox", text),
        (letter_row(text),),
        (("pending", 2), ("resolved", 1)),
        60,
        "degraded",
        local_path("/ops/dead?after=1"),
        RunView(text, text, 9, 5, 1, 1, 2, text, ""),
        text,
        text,
    )


def letter(text: str = "ada") -> LetterPage:
    return LetterPage(
        member_shell("operators", "ada"),
        csrf_token("a.token"),
        letter_row(text),
        ((text, text),),
        AT,
        text,
        text,
        (LetterChangeView(AT, text, text, text),),
        "0" * 64,
        text,
        text,
        text,
        text,
    )


def trace(text: str = "ada") -> TracePage:
    found = traces(text).traces[0]
    spans = tuple(
        SpanView(depth, text, text, text, 1.5, 0.25, 100 * depth, 50, text) for depth in range(3)
    )
    return TracePage(member_shell("operators", "ada"), found, spans, (text,), True, (text,))


def traces(text: str = "ada") -> TracesPage:
    found = tuple(
        TraceView("0" * 32, local_path(f"/lab/traces/{'0' * 32}"), AT, text, 1.5, 3, 1, text, wrong)
        for wrong in (True, False)
    )
    asked = dict.fromkeys(("min", "error", "route"), "ada")
    return TracesPage(member_shell("operators", "ada"), asked, found, True, False)


def failures(text: str = "ada") -> FailuresPage:
    return FailuresPage(
        replace(shell_of_member(), page=element_id("failures")),
        failure_facts(),
        lost(text),
        lost_letter(text),
        True,
        csrf_token("token"),
        text,
        text,
    )


def failure_facts() -> FailureFacts:
    count = LettersCount((("pending", 2), ("resolved", 7)), 61, "degraded")
    return FailureFacts(outside().dependencies, count)


def lost(text: str = "ada") -> LostList:
    chain = (text, f"caused by: {text}")
    waiting = LostView("feed-sink", "crashed", "Numbered", text, 3, AT, chain, 4, 2)
    settled = LostView("feed-sink", "crashed", "Work", text, 3, AT, (), 9, 0, 1, 2, 2, (text, "9"))
    return LostList((waiting, settled))


def lost_letter(text: str = "ada") -> LostLetterView:
    return LostLetterView(4, ((text, text), (text, text)), AT, (text,), "", "", 2, "7", "ada")


def overview(text: str = "<b>", *, is_known: bool = True, is_own: bool = True) -> OverviewView:
    hot = HotActor(f"site/rooms/{text}", "RoomActor", 12.5, 3.1, 7, 1024)
    unknown = OverviewView(
        AT, 7, 65, 3, None, None, None, None, None, None, None, None, None, None, None, None,
        (), (), (), (), None,
    )  # fmt: skip
    if not is_known:
        return unknown
    return replace(
        unknown, messages_per_s=6.2, events_per_s=0.5, loop_late_ms=4.1, pool_in_use=2,
        pool_max=10, pool_waiting=1, oldest_transaction_s=0.04, outbox=3, outbox_oldest_s=2.0,
        letters=1, spans_lost=0, nodes=nodes(), lags=(
            Lagging(f"{text} of orders", 1200, 7.25),
            Lagging(text, 1200, 7.25, 40.5, 29.6, 12.5),
        ),
        breakers=(BreakerView("mail", "closed", 0), BreakerView("sns", "open", 42)),
        busiest=(hot, replace(hot, busy_percent=None)), fullest=(hot,),
        statements=StatementsView((StatementView(f"SELECT {text}", 7, 0.5, 3.5),), is_own),
    )  # fmt: skip


def acts(text: str = "ada") -> ActsPage:
    entries = tuple(
        ActView(n + 1, AT, text, text, f"of {text}", n == 0, text, text, text, text)
        for n in range(2)
    )
    asked = dict.fromkeys(("user", "act", "since", "until", "outcome"), "ada")
    return ActsPage(
        member_shell("operators", "ada"),
        asked,
        ("account.sign_in", "ada"),
        entries,
        local_path("/ops/audit?before=1"),
    )


def account(username: str = "ada", /, **problems: str) -> AccountPage:
    sign_ins = tuple(
        SignInView(
            element_id(f"sign-in-{number}"),
            "Firefox on Linux",
            AT,
            AT,
            number == 0,
            "192.0.2.*",
            username,
        )
        for number in range(2)
    )
    frame, token = member_shell("account", username), csrf_token("a.token")
    return AccountPage(
        frame,
        token,
        username,
        "ada@example.org",
        "user",
        AT,
        sign_ins,
        problems=problems,
        factors=FactorsView(AT if "code" in problems else None, 10, has_codes=True),
        has_address_offer=True,
        new_email="new@example.org",
        has_asked_address=not problems,
        rp_id=rp_id("example.org"),
        passkeys=tuple(
            PasskeyView(element_id(f"passkey-{number}"), username, AT, None, True, True)
            for number in range(2)
        ),
        devices=tuple(
            DeviceView(
                element_id(f"device-{number}"), username, "Firefox on Linux", "new", False, AT, AT
            )
            for number in range(2)
        ),
        tokens=(
            TokenView(element_id("token-1"), username, "chat:read", AT, AT, None),
            TokenView(element_id("token-2"), username, "chat:read, chat:write", AT, AT, AT),
        ),
    )


def document() -> DocumentPage:
    link = DocumentLink(local_path("/docs/start/one"), "One", "have one", 3)
    folder = DocumentFolder(local_path("/docs#start"), "Start", (link,))
    step = StepOfPath("Just arrived", 1, 2, link)
    contents = (link, replace(link, detail="section", path=local_path("/docs/start/one#a")))
    frame = shell(page="docs", has_stream=False)
    html = Markup('<h1 id="one">One</h1><p>Text</p>')
    text = local_path("/docs/start/one.md")
    return DocumentPage(frame, "One", "Start", 3, text, html, contents, (folder,), (step,))


def hub(query: str = "") -> HubPage:
    page = document()
    path = PathView("Just arrived", "See it work.", page.folders[0].pages)
    found = FoundView(local_path("/docs/start/one#a"), "A", "One")
    search = SearchView(query, (found,)) if query else None
    return HubPage(page.shell, (path,), page.folders, search)


def mechanism() -> MechanismView:
    arrows = (ArrowView(1, 0, 1, "a command"), ArrowView(2, 1, 0, "a status"))
    return MechanismView(
        local_path("/work/one"),
        "One",
        "A click asks",
        "What it is.",
        DiagramView("A asks, B answers.", ("A", "B", "C"), arrows),
        (("First", "This."), ("Then", "That.")),
        (GuaranteeView("It holds.", (("SITE-1", local_path("/docs")), ("SITE-2", None))),),
        (NavLink(local_path("/lab"), "The lab"),),
    )


def work_list() -> WorkListPage:
    return WorkListPage(shell(page="work", has_stream=False), (mechanism(),))


def work(panel: str) -> WorkPage:
    return WorkPage(shell(page="work"), mechanism(), element_id(panel), lab(message(1)))


def error() -> ErrorPage:
    view = ErrorView(404, "There is nothing here", "The link was mistyped.", element_id(REQUEST))
    frame = shell(page="error", has_stream=False)
    return ErrorPage(frame, view, local_path("/lab?x=1"), ("Look at the address.",), 3)
