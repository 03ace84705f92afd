"""What every page and fragment must be: strict, quiet, unique in its ids, without inline code."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from jinja2 import StrictUndefined, UndefinedError

from tests.web.views import samples
from web.views import MessageState, RecoveryForm, Renderer, Speaker, make_environment
from web.views.letters import FailureFacts, LostList
from web.views.moderation import OverviewPage
from web.views.renderer import MESSAGE_LIST, PARTS_KEPT_MAX, TEMPLATES

# SITE-97, and those of SITE-101.
SIGNALS = set(
    "sseTabId ssePage roomName sseConnected chatDraftBody chatDemoDraftBody clientId demoClientId "
    "operationsFilterQuery activeFlowId count serverCount serverConnected demoMessage demoStatus "
    "demoOriginalMessage transportErrorSource transportErrorKind transportErrorTitle "
    "transportErrorMessage transportErrorStatus transportErrorRetryAfter transportErrorRetrying "
    "labPanel".split()
)
RENDERER: Renderer = samples.renderer()
MESSAGES = (
    samples.message(1, speaker=Speaker.YOU),
    samples.message(2, author="Demo Bot", speaker=Speaker.DEMO),
    samples.message(3, state=MessageState.PENDING),
)
PAGES: dict[str, Callable[[], str]] = {
    "home": lambda: RENDERER.home_page(samples.home()),
    "lab": lambda: RENDERER.lab_page(samples.lab(*MESSAGES)),
    "a member's lab": lambda: RENDERER.lab_page(
        replace(samples.lab(*MESSAGES), shell=samples.shell_of_member())
    ),
    "error": lambda: RENDERER.error_page(samples.error()),
    "document": lambda: RENDERER.document_page(samples.document()),
    "documents": lambda: RENDERER.documents_hub(samples.hub()),
    "documents searched": lambda: RENDERER.documents_hub(samples.hub("mailbox")),
    "mechanisms": lambda: RENDERER.work_list(samples.work_list()),
    "mechanism with chat": lambda: RENDERER.work_page(samples.work("chat")),
    "mechanism with demos": lambda: RENDERER.work_page(samples.work("demos")),
    "mechanism with timeline": lambda: RENDERER.work_page(samples.work("operations")),
    "sign-in": lambda: RENDERER.sign_in_page(samples.sign_in()),
    "refused sign-in": lambda: RENDERER.sign_in_page(samples.sign_in("a@b", password="Blank.")),
    "link": lambda: RENDERER.link_page(samples.link()),
    "refused link": lambda: RENDERER.link_page(samples.link("a@b", email="No.")),
    "link sent": lambda: RENDERER.link_sent_page(samples.link_sent()),
    "open link": lambda: RENDERER.open_link_page(samples.open_link()),
    "refused open link": lambda: RENDERER.open_link_page(samples.open_link("x", code="No.")),
    "not me": lambda: RENDERER.not_me_page(samples.not_me()),
    "refused not me": lambda: RENDERER.not_me_page(
        replace(samples.not_me("x"), problems={"": "No."})
    ),
    "done not me": lambda: RENDERER.not_me_page(samples.not_me(is_done=True)),
    "back not me": lambda: RENDERER.not_me_page(replace(samples.not_me(), of_address=True)),
    **{
        f"recovery {form}": partial(
            lambda form: RENDERER.recovery_page(samples.recovery(form)), form
        )
        for form in RecoveryForm
    },
    "refused recovery": lambda: RENDERER.recovery_page(
        replace(samples.recovery(RecoveryForm.STARTED), problems={"": "No."})
    ),
    "lost second factor": lambda: RENDERER.second_page(replace(samples.second(), can_recover=True)),
    "recovered account": lambda: RENDERER.account_page(
        replace(samples.account(), recovered_at=samples.AT, guarded_until=samples.AT)
    ),
    "left": lambda: RENDERER.left_page(samples.left()),
    "allow": lambda: RENDERER.allow_page(samples.allow()),
    "refused allow": lambda: RENDERER.allow_page(replace(samples.allow("x"), problems={"": "No."})),
    "done allow": lambda: RENDERER.allow_page(samples.allow(is_done=True)),
    "confirm address": lambda: RENDERER.confirm_address_page(samples.confirm_address()),
    "done confirm address": lambda: RENDERER.confirm_address_page(
        samples.confirm_address(is_done=True)
    ),
    "mail previews": lambda: RENDERER.mail_previews_page(samples.mail_previews()),
    "registration": lambda: RENDERER.register_page(samples.registration()),
    "refused registration": lambda: RENDERER.register_page(
        samples.registration("ada", username="Taken.", password="Short.")
    ),
    "prove": lambda: RENDERER.prove_page(samples.prove()),
    "second factor": lambda: RENDERER.second_page(samples.second()),
    "refused second factor": lambda: RENDERER.second_page(samples.second(code="Wrong.")),
    "enrol": lambda: RENDERER.enrol_page(samples.enrol()),
    "token": lambda: RENDERER.token_page(samples.token()),
    "account with a refused token": lambda: RENDERER.account_page(
        samples.account(token_name="Too long.", scopes="Choose.")
    ),
    "codes": lambda: RENDERER.codes_page(samples.codes()),
    "account with an app": lambda: RENDERER.account_page(samples.account(code="No.")),
    "protected": lambda: RENDERER.protected_page(samples.protected()),
    "account": lambda: RENDERER.account_page(samples.account()),
    "who is signed in": lambda: RENDERER.sign_ins_page(samples.operated()),
    "what is called outside": lambda: RENDERER.outside_page(samples.outside()),
    "dead letters": lambda: RENDERER.letters_page(samples.letters()),
    "a dead letter": lambda: RENDERER.letter_page(samples.letter()),
    "failures": lambda: RENDERER.failures_page(samples.failures()),
    "failures, one settled": lambda: RENDERER.failures_page(
        replace(
            samples.failures(),
            letter=replace(samples.lost_letter(), how="Given up", note="why", number=None),
        )
    ),
    "traces": lambda: RENDERER.traces_page(samples.traces()),
    "a trace": lambda: RENDERER.trace_page(samples.trace()),
    "the running site": lambda: RENDERER.overview_page(
        OverviewPage(samples.shell(page="overview"), samples.overview())
    ),
    "acts": lambda: RENDERER.acts_page(samples.acts()),
    "account with providers": lambda: RENDERER.account_page(
        replace(samples.account(), providers=samples.providers())
    ),
    "sign-in with providers": lambda: RENDERER.sign_in_page(
        replace(samples.sign_in(), providers=samples.providers().offered)
    ),
    "demo": lambda: RENDERER.demo_page(samples.demo()),
    "errands": lambda: RENDERER.errands_page(samples.errands()),
    "refused account": lambda: RENDERER.account_page(samples.account(password="Wrong.")),
}
FRAGMENTS: dict[str, Callable[[], str]] = {
    "proof": lambda: RENDERER.proof(samples.proof()),
    "overview": lambda: RENDERER.overview(samples.overview()),
    "facts of failures": lambda: RENDERER.failure_facts(samples.failure_facts()),
    "facts of failures, none known": lambda: RENDERER.failure_facts(FailureFacts((), None)),
    "what was lost": lambda: RENDERER.failures_lost(samples.lost()),
    "nothing lost": lambda: RENDERER.failures_lost(LostList(())),
    "overview of nothing known": lambda: RENDERER.overview(samples.overview(is_known=False)),
    "message in pane you": lambda: RENDERER.message(MESSAGES[0]).you,
    "message in pane demo": lambda: RENDERER.message(MESSAGES[0]).demo,
    "chat window": lambda: RENDERER.chat_window(MESSAGES),
    "tree": lambda: RENDERER.tree(samples.root()),
    "tree row": lambda: RENDERER.tree_row(samples.node("Lobby")),
    "tree branch": lambda: RENDERER.tree_branch(samples.root(), level=1),
    "crash": lambda: RENDERER.crash(samples.crash()),
    "crash under way": lambda: RENDERER.crash(samples.crash(is_back=False)),
    "stage chip": lambda: RENDERER.stage_chip(samples.chip(), 3),
    "stage supervisor": lambda: RENDERER.stage_chip(samples.supervisor("feed", "desk", 3), 2),
    "story slots": lambda: RENDERER.story_slots([0, 19]),
    "stage story": lambda: RENDERER.stage_story(samples.story()),
    "stage state": lambda: RENDERER.stage_state(samples.stage().state),
    "stage inspector": lambda: RENDERER.stage_inspector(samples.inspector()),
    "stage inspector of nobody": lambda: RENDERER.stage_inspector(None),
    "demo panel": lambda: RENDERER.demo_panel(samples.found()),
    "error": lambda: RENDERER.error_fragment(samples.error().error),
}
ALL = PAGES | FRAGMENTS


def each(cases: dict[str, Callable[[], str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("render", cases.values(), ids=cases.keys())


@each(ALL)
def test_no_inline_code_and_no_foreign_address(render: Callable[[], str]) -> None:
    # SITE-3, SITE-50, SEC-64
    page = samples.read(render())
    for tag, attributes in page.elements:
        for name, value in attributes:
            assert name != "style", tag
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "action", "formaction"):
                assert value
                # An app for codes on the same device is no other host.
                is_here = value.startswith(("/", "#", "otpauth://totp/"))
                assert is_here, (tag, name, value)
                assert not value.startswith("//")
    assert "style" not in [tag for tag, _ in page.elements]


@each(PAGES)
def test_every_script_is_a_file_with_the_nonce(render: Callable[[], str]) -> None:
    # SEC-64, SITE-50
    page = samples.read(render())
    scripts = [dict(attributes) for tag, attributes in page.elements if tag == "script"]
    assert scripts
    for script in scripts:
        assert script["nonce"] == samples.NONCE
        assert (script["src"] or "").startswith("/static/")
        assert script["type"] == "module"


@each(FRAGMENTS)
def test_no_fragment_has_a_script_or_a_nonce(render: Callable[[], str]) -> None:
    # SEC-60, SEC-64
    page = samples.read(render())
    assert "script" not in [tag for tag, _ in page.elements]
    assert page.values("nonce") == []
    assert samples.NONCE not in render()


@each(ALL)
def test_ids_are_unique_and_elements_are_closed(render: Callable[[], str]) -> None:
    # SITE-22
    page = samples.read(render())
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert page.depth == 0


@each(PAGES)
def test_every_reference_leads_to_an_element(render: Callable[[], str]) -> None:
    # SITE-20
    page = samples.read(render())
    ids = set(page.values("id"))
    for name in ("aria-labelledby", "aria-describedby", "for"):
        for value in page.values(name):
            assert set(value.split()) <= ids, (name, value)


@each(ALL)
def test_signals_are_exactly_the_declared_ones(render: Callable[[], str]) -> None:
    # SITE-97
    page = samples.read(render())
    named: set[str] = set()
    for _, attributes in page.elements:
        for name, value in attributes:
            if not name.startswith("data-") or value is None:
                continue
            named.update(re.findall(r"\$([A-Za-z_]\w*)", value))
            if name.startswith("data-signals"):
                named.update(re.findall(r"[{,]\s*(\w+):", value))
            if name == "data-bind":
                named.add(value)
    assert {name for name in named if not name.startswith("_")} <= SIGNALS
    assert all(re.fullmatch(r"_?[a-z][A-Za-z]*", name) for name in named)


def test_the_lab_declares_the_signals_of_its_panels() -> None:
    # SITE-97, SITE-101
    html = PAGES["a member's lab"]()
    for name in ("sseTabId", "ssePage", "roomName", "clientId", "demoClientId", "chatDraftBody"):
        # A draft is the one that is kept in the browser.
        assert re.search(rf"[{{ ]{name}: ('|greenroomDraft\(el\))", html), name
    for name in SIGNALS:
        if name.startswith("transportError"):
            assert f"{name}: " in html


def test_no_template_takes_text_as_markup_or_a_bare_value_into_data() -> None:
    # SEC-61, SEC-62
    templates = sorted(Path(TEMPLATES).rglob("*.html"))
    assert len(templates) >= 14
    for template in templates:
        source = template.read_text(encoding="utf-8")
        assert "|safe" not in source.replace(" ", ""), template
        assert "Markup(" not in source
        assert "autoescape" not in source
        for value in re.findall(r'\sdata-[\w:.-]+="([^"]*)"', source):
            for expression in re.findall(r"\{\{-?(.*?)-?\}\}", value):
                assert expression.strip().endswith("| dsid"), (template.name, expression)
        assert not re.search(r"=\{\{", source), f"{template}: an attribute without quotes"


def test_a_missing_value_is_an_error_and_not_a_hole() -> None:
    # SEC-61
    environment = make_environment(samples.static())
    assert environment.undefined is StrictUndefined
    with pytest.raises(UndefinedError):
        environment.get_template("home.html").render(shell=samples.shell())


def test_pages_are_small() -> None:
    # LAB-80
    # It shows a whole stage, beside all that it says.
    assert len(PAGES["home"]().encode()) <= 40_000
    # Nine kinds of panels; what it costs on the wire is bound in `tests/web/site/test_bytes.py`.
    assert len(PAGES["lab"]().encode()) <= 40_000
    assert len(samples.read(PAGES["lab"]()).elements) <= 3_000


def test_what_is_the_same_on_many_pages_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # SEC-62, SITE-68: the page is what it is without; nobody gets the list of another
    here, rendered = samples.renderer(), list[str]()
    render = here._render

    def counted(name: str, **values: object) -> str:
        rendered.append(name)
        return render(name, **values)

    monkeypatch.setattr(here, "_render", counted)
    shared = samples.lab(samples.message(body="<b>for all</b>"))
    own = samples.lab(samples.message(body="mine", speaker=Speaker.YOU))
    for page in (shared, own, shared, own):
        html = here.lab_page(page)
        assert html == samples.renderer().lab_page(page)
        assert ("mine" in html) is (page is own)
        assert "<b>for all" not in html
    assert rendered.count(MESSAGE_LIST) == 4
    for number in range(2 * PARTS_KEPT_MAX):
        here.lab_page(samples.lab(samples.message(body=str(number))))
    assert len(here._parts) == PARTS_KEPT_MAX
    assert here.lab_page(shared) == samples.renderer().lab_page(shared)


def test_forms_are_for_password_managers() -> None:
    # SEC-70, SITE-33
    fields = {
        "sign-in": ["username", "current-password"],
        "registration": ["nickname", "username", "new-password"],
        "account": [
            *("email", "username", "current-password", "new-password", "off", "off"),
            *2 * ["username", "current-password"],
        ],
    }
    for name, expected in fields.items():
        page = samples.read(PAGES[name]())
        assert page.values("autocomplete") == expected, name
        inputs = [dict(attributes) for tag, attributes in page.elements if tag == "input"]
        secret = [one for one in inputs if (one.get("autocomplete") or "").endswith("password")]
        assert all(one["type"] == "password" and one["value"] == "" for one in secret)
        # Nothing cuts what is pasted.
        kept = [one for one in inputs if one.get("autocomplete") not in (None, "off")]
        assert "maxlength" not in {key for one in kept for key in one}


def test_what_was_typed_comes_back_as_the_value_of_its_field() -> None:
    # SITE-19, SITE-21, SITE-33
    for typed in ('"><script>alert(1)</script>', "' onfocus=alert(1) x='", "{{ 7*7 }}", "&quot;"):
        page = samples.read(RENDERER.sign_in_page(samples.sign_in(typed, email="No.")))
        plain = samples.read(RENDERER.sign_in_page(samples.sign_in("plain", email="No.")))
        assert typed in page.values("value")
        for other in (
            RENDERER.link_page(samples.link(typed)),
            RENDERER.open_link_page(samples.open_link(typed)),
            RENDERER.not_me_page(samples.not_me(typed)),
            RENDERER.allow_page(samples.allow(typed)),
            RENDERER.recovery_page(samples.recovery(RecoveryForm.STOP, typed)),
            RENDERER.recovery_page(samples.recovery(RecoveryForm.FINISH, typed)),
            RENDERER.confirm_address_page(samples.confirm_address(typed)),
        ):
            assert typed in samples.read(other).values("value")
        assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
        assert [[key for key, _ in one] for _, one in page.elements] == [
            [key for key, _ in one] for _, one in plain.elements
        ]


def test_who_operates_is_led_to_closing_a_breaker_where_there_is_one() -> None:
    # RES-3
    page = samples.failures()
    for one, is_led in (
        (page, True),
        (replace(page, facts=FailureFacts((), None)), False),
        (replace(page, is_operator=False), False),
    ):
        links = samples.read(RENDERER.failures_page(one)).values("href")
        assert ("/ops/outside" in links) is is_led
