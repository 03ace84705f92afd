"""What the panels show, and that each fragment fits the element it replaces."""

import re
from dataclasses import replace

import pytest

from tests.web.views import samples
from web.views import (
    ActorStatus,
    Branch,
    CountView,
    CrashTarget,
    Decision,
    ImpossibleView,
    MessageState,
    Speaker,
    StrategyBadge,
    TreeView,
    element_id,
)

RENDERER = samples.renderer()


def test_home_shows_the_live_figures_and_leads_to_the_lab() -> None:
    # SITE-5, SITE-6
    page = samples.read(RENDERER.home_page(samples.home()))
    for figure in ("143", "12", "48,211", "1.8 ms", "3 h 12 min"):
        assert figure in page.text
    assert "/lab" in page.values("href")
    assert page.values("data-uptime") == ["11520"]
    # The stage with its button, its tab, and a place for what comes of a crash.
    assert page.values("data-tab") == [samples.TAB]
    assert {"chip-feed-sink", "story-19", "stage-state", "pulse"} <= set(page.values("id"))
    # SITE-17, and the figures with who is beside them
    assert {"/docs/start/one", "/docs"} <= set(page.values("href"))
    assert "not measured" in page.text


def test_home_leads_to_no_documents_where_there_are_none() -> None:
    # SITE-15
    bare = replace(samples.home(), doorways=())
    assert not any(
        path.startswith("/docs")
        for path in samples.read(RENDERER.home_page(bare)).values("href")
        if path
    )


def test_before_the_first_restart_no_time_is_claimed() -> None:
    # SITE-6: nothing labelled live is a constant
    html = RENDERER.proof(replace(samples.proof(), last_restart_ms=None))
    assert "none yet" in html
    assert "ms" not in samples.read(html).text.split()


def test_the_lab_has_its_sections_roles_and_pill() -> None:
    # SITE-4, SITE-7, SITE-20, SITE-74
    page = samples.read(RENDERER.lab_page(samples.lab(samples.message())))
    ids = page.values("id")
    for wanted in ("connection-pill", "error-target", "chat-demo", "tree-target", "main"):
        assert wanted in ids
    assert page.values("role").count("log") == 2
    assert page.values("aria-live") == ["polite"] * 3
    assert page.values("role").count("tree") == 2
    assert "Room: Lobby" in page.text
    assert "alert" in page.values("role")


def test_a_message_shows_author_time_state_and_body_in_both_panes() -> None:
    # SITE-74, SITE-22
    message = samples.message(7, author="Ada", body="two\nlines", speaker=Speaker.YOU)
    fragments = RENDERER.message(message)
    for pane, html in (("you", fragments.you), ("demo", fragments.demo)):
        page = samples.read(html)
        assert page.values("id") == [f"chat-{pane}-{message.id}"]
        assert page.values("datetime") == ["2026-11-21T08:14:05Z"]
        assert page.values("data-seq") == ["7"]
        assert [tag for tag, _ in page.elements if tag in ("bdi", "time")] == ["bdi", "time"]
        assert "Ada" in page.text
        # A state is told only where it is another one than that of nearly all.
        assert "visible" not in page.text
        assert page.text.rstrip().endswith("two\nlines")
    assert "is-own" in fragments.you
    assert "is-own" not in fragments.demo


def test_a_pending_message_says_so_in_words() -> None:
    # SITE-68, SITE-20
    assert "waiting for review" in RENDERER.message(samples.message(state=MessageState.PENDING)).you


def test_both_composers_work_as_plain_forms() -> None:
    # SITE-19, SITE-44; a guest has the demo user's only (SITE-9)
    guest = samples.read(RENDERER.lab_page(samples.lab()))
    assert "/demo/chat/messages" not in guest.values("action")
    lab = replace(samples.lab(), shell=samples.member_shell("lab"))
    html = RENDERER.lab_page(lab)
    for pane, path, own in (
        ("you", "/demo/chat/messages", ["clientId", "chatDraftBody"]),
        ("demo", "/demo/chat/messages/demo", ["demoClientId", "chatDemoDraftBody"]),
    ):
        start = html.index(f'<form id="chat-{pane}-composer"')
        form = samples.read(html[start : html.index("</form>", start)])
        assert (form.values("action"), form.values("method")) == ([path], ["post"])
        assert form.values("name") == [own[0], "sseTabId", "roomName", "csrf", own[1]]


def test_the_chat_window_replaces_exactly_the_two_lists() -> None:
    # SITE-77, SITE-78
    page = samples.read(RENDERER.lab_page(samples.lab()))
    window = samples.read(RENDERER.chat_window((samples.message(1), samples.message(2))))
    lists = [dict(attributes)["id"] for tag, attributes in window.elements if tag == "ol"]
    assert lists == ["chat-you-list", "chat-demo-list"]
    assert set(lists) <= set(page.values("id"))
    assert len([tag for tag, _ in window.elements if tag == "li"]) == 4


def test_a_row_tells_status_in_words_with_incarnation_and_last_exit() -> None:
    # LAB-10, SITE-20
    node = samples.node("Lobby", incarnation=3, status=ActorStatus.BACKING_OFF, last_exit="OSError")
    page = samples.read(RENDERER.tree_row(node))
    assert page.values("id") == ["row-Lobby"]
    words = page.text.split()
    assert "backing off" in page.text
    assert words[words.index("incarnation") + 1] == "3"
    assert words[words.index("restarts") + 1] == "2"
    assert "OSError" in page.text


@pytest.mark.parametrize("status", ActorStatus)
def test_every_status_has_its_word_and_tone(status: ActorStatus) -> None:
    # LAB-10
    html = RENDERER.tree_row(samples.node("a", status=status))
    assert status.value.replace("_", " ") in html
    assert 'class="row tone-' in html


@pytest.mark.parametrize("decision", Decision)
def test_every_decision_has_its_words(decision: Decision) -> None:
    # LAB-12
    assert "decided to" in RENDERER.crash(replace(samples.crash(), decision=decision))


def test_the_tree_is_a_nested_list_with_levels() -> None:
    # LAB-10
    page = samples.read(RENDERER.tree(samples.root()))
    assert page.values("aria-level") == ["1", "2", "3", "3", "2", "3"]
    assert page.values("tabindex").count("0") == 1
    assert page.values("role").count("group") == 3
    assert "× 37" in page.text


def test_a_changed_row_patches_one_element_of_the_tree() -> None:
    # LAB-10: the row is in the tree, and nothing else has its id
    tree = samples.read(RENDERER.tree(samples.root()))
    # Level and place in the order of the keyboard are the tree's, and stay when a row is patched.
    whole = re.sub(r' aria-level="\d" tabindex="-?\d"', "", RENDERER.tree(samples.root()))
    before = RENDERER.tree_row(samples.node("Lobby")).strip()
    assert before in whole
    assert 'data-preserve-attr="tabindex aria-level aria-expanded"' in before
    after = RENDERER.tree_row(samples.node("Lobby", incarnation=2))
    assert samples.read(after).values("id") == ["row-Lobby"]
    assert tree.values("id").count("row-Lobby") == 1


def test_a_new_branch_looks_as_if_it_had_always_been_there() -> None:
    # LAB-10
    rooms = samples.node("rooms", kind="supervisor", strategy=StrategyBadge.DYNAMIC)
    newcomer = Branch(samples.node("Demo"))
    html = RENDERER.tree_branch(newcomer, level=2)
    assert html.strip() in RENDERER.tree(Branch(rooms, (newcomer,)))
    assert "kids-rooms" in samples.read(RENDERER.tree(Branch(rooms))).values("id")
    # SAGA-11: a worker has a list for those that work for it, and no other has one
    saga = replace(rooms, id=element_id("saga"), strategy=None, window=None, holds=True)
    held = samples.read(RENDERER.tree(Branch(saga, (Branch(rooms),))))
    assert {"kids-saga", "kids-rooms"} <= set(held.values("id"))
    alone = samples.read(RENDERER.tree(Branch(replace(saga, holds=False))))
    assert "kids-saga" not in alone.values("id")
    with pytest.raises(ImpossibleView, match="empty below"):
        Branch(replace(saga, holds=False), (Branch(rooms),))


def test_the_crash_button_is_there_only_where_crashing_is_allowed() -> None:
    # LAB-90, SEC-117
    assert "Crash the Lobby room" in RENDERER.lab_page(samples.lab())
    assert "/api/lab/actors" not in RENDERER.lab_page(samples.lab(is_breakable=False))


def test_a_crash_is_told_step_by_step() -> None:
    # LAB-12
    under_way = samples.read(RENDERER.crash(samples.crash(is_back=False))).text
    assert "not yet" in under_way
    back = samples.read(RENDERER.crash(samples.crash())).text
    for words in ("Lobby", "PlantedCrash", "rooms", "dynamic", "restart it", "1.8 ms"):
        assert words in back
    assert samples.read(RENDERER.crash(samples.crash())).values("id") == ["crash-result"]


def test_a_page_without_a_crash_keeps_the_place_for_it() -> None:
    page = samples.lab()
    quiet = replace(
        page, tree=TreeView(samples.root(), samples.AT, CrashTarget(element_id("a"), "it"))
    )
    html = RENDERER.lab_page(quiet)
    assert 'id="crash-result"' in html
    assert "receipt" not in html


def test_an_error_page_opens_no_stream_and_shows_the_request() -> None:
    # SITE-4, SITE-151
    page = samples.read(RENDERER.error_page(samples.error()))
    assert samples.REQUEST in page.text
    assert "404" in page.text
    assert page.values("href").count("/") >= 2
    assert [name for name in page.values("src") if "datastar" in name] == []
    assert "stream" not in page.values("id")


def test_an_error_fragment_replaces_the_place_kept_for_it() -> None:
    # SITE-157
    fragment = samples.read(RENDERER.error_fragment(samples.error().error))
    assert fragment.values("id") == ["error-fragment"]
    assert "error-fragment" in samples.read(RENDERER.lab_page(samples.lab())).values("id")
    for words in ("There is nothing here", "404", samples.REQUEST):
        assert words in fragment.text


def test_counts_of_one_kind_stand_for_many_children() -> None:
    # LAB-10
    html = RENDERER.tree_row(CountView(element_id("streams-count"), "stream actors", 12345))
    assert "stream actors" in html
    assert "12,345" in html
