"""Facts become a tree, and two trees the smallest patch between them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.lab.views import (
    EXIT_WORDS_MAX,
    SAME_KIND_MAX,
    ActorFacts,
    TreeChanges,
    changes,
    exit_words,
    tree_of,
)
from web.views import (
    ActorStatus,
    Branch,
    CountView,
    ElementId,
    ImpossibleView,
    NodeView,
    StrategyBadge,
    element_id,
)


def fact(
    identity: str,
    supervisor: str | None = "root",
    *,
    kind: str = "Worker",
    strategy: StrategyBadge | None = None,
    incarnation: int = 1,
) -> ActorFacts:
    row = NodeView(
        id=element_id(identity),
        name=identity,
        kind=kind,
        status=ActorStatus.RUNNING,
        incarnation=incarnation,
        restarts=incarnation - 1,
        queued=0,
        strategy=strategy,
    )
    return ActorFacts(supervisor, row)


ROOT = fact("root", None, strategy=StrategyBadge.ONE_FOR_ONE)
ROOMS = fact("rooms", strategy=StrategyBadge.DYNAMIC)


def names(item: Branch | CountView) -> list[str]:
    if isinstance(item, CountView):
        return [f"{item.kind}*{item.count}"]
    return [item.node.name, *(name for child in item.children for name in names(child))]


def test_facts_become_a_tree_in_the_order_given() -> None:
    # LAB-10
    tree = tree_of([ROOT, fact("b"), ROOMS, fact("lobby", "rooms"), fact("a")])
    assert names(tree) == ["root", "b", "rooms", "lobby", "a"]


def test_visitors_actors_are_only_a_number() -> None:
    # LAB-10, LAB-93
    facts = [ROOT, ROOMS, fact("tab-1", "rooms", kind="Stream"), fact("lobby", "rooms")]
    assert names(tree_of(facts, counted=frozenset({"Stream"}))) == [
        *("root", "rooms", "lobby", "Stream*1"),
    ]


def test_too_many_of_one_kind_are_a_number() -> None:
    # LAB-10
    few = [fact(f"w{number}", "rooms") for number in range(SAME_KIND_MAX)]
    assert len(names(tree_of([ROOT, ROOMS, *few]))) == SAME_KIND_MAX + 2
    assert names(tree_of([ROOT, ROOMS, *few, fact("one-more", "rooms")])) == [
        *("root", "rooms", f"Worker*{SAME_KIND_MAX + 1}"),
    ]


def test_children_that_were_written_down_are_shown_however_many() -> None:
    # LAB-10: only dynamic children are folded
    many = [fact(f"w{number}") for number in range(SAME_KIND_MAX + 5)]
    assert len(names(tree_of([ROOT, *many]))) == SAME_KIND_MAX + 6


def test_an_ended_actor_is_not_counted_as_alive() -> None:
    alive = fact("s1", "rooms", kind="Stream")
    ended = replace(alive, row=replace(alive.row, status=ActorStatus.STOPPED))
    facts = [ROOT, ROOMS, ended, fact("s2", "rooms", kind="Stream")]
    assert names(tree_of(facts, counted=frozenset({"Stream"})))[-1] == "Stream*1"


def test_an_orphan_is_left_out_and_two_roots_are_refused() -> None:
    assert names(tree_of([ROOT, fact("lost", "nobody")])) == ["root"]
    with pytest.raises(ImpossibleView):
        tree_of([ROOT, fact("other", None)])


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (("normal", None, None, None), "normal"),
        (("killed", None, None, None), "killed"),
        (("shutdown", None, None, "draining"), "shutdown: draining"),
        (("crashed", "OSError", "no such file", None), "crashed: OSError: no such file"),
        (("crashed", "OSError", "", None), "crashed: OSError"),
    ],
)
def test_an_exit_is_told_in_a_line(
    told: tuple[str, str | None, str | None, str | None], words: str
) -> None:
    # LAB-10
    assert exit_words(*told) == words


def test_a_long_exit_is_cut_and_says_so() -> None:
    words = exit_words("crashed", "OSError", "x" * 500, None)
    assert len(words) == EXIT_WORDS_MAX
    assert words.endswith("…")


def test_a_crash_changes_one_row() -> None:
    # LAB-10: after a crash one node changes, no node has moved
    before = tree_of([ROOT, ROOMS, fact("lobby", "rooms"), fact("support", "rooms")])
    after = tree_of([ROOT, ROOMS, fact("lobby", "rooms", incarnation=2), fact("support", "rooms")])
    found = changes(before, after)
    assert [row.id for row in found.rows] == ["lobby"]
    assert (found.added, found.removed, found.whole) == ((), (), None)


def test_nothing_changed_is_nothing_to_send() -> None:
    # LAB-81
    tree = tree_of([ROOT, ROOMS])
    assert not changes(tree, tree)
    assert changes(tree, tree) == TreeChanges()


def test_a_newcomer_is_appended_below_its_supervisor() -> None:
    # LAB-10
    before = tree_of([ROOT, ROOMS, fact("lobby", "rooms")])
    after = tree_of([ROOT, ROOMS, fact("lobby", "rooms"), fact("demo", "rooms")])
    (new,) = changes(before, after).added
    assert (new.parent, new.level) == ("rooms", 3)
    assert isinstance(new.branch, Branch)
    assert new.branch.node.name == "demo"


def test_a_branch_that_is_gone_is_removed_by_its_top() -> None:
    before = tree_of([ROOT, ROOMS, fact("lobby", "rooms"), fact("a")])
    assert changes(before, tree_of([ROOT, fact("a")])).removed == ("rooms",)


def test_what_rows_cannot_tell_is_sent_whole() -> None:
    before = tree_of([ROOT, fact("a"), fact("b")])
    for after in (
        tree_of([ROOT, fact("b"), fact("a")]),
        tree_of([ROOT, fact("new"), fact("a"), fact("b")]),
        tree_of([ROOT, fact("a", strategy=StrategyBadge.DYNAMIC), fact("b")]),
        tree_of([fact("other", None)]),
    ):
        assert changes(before, after).whole == after


Rows = dict[ElementId, tuple[NodeView | CountView, list[ElementId]]]


def flat(tree: Branch) -> Rows:
    rows: Rows = {}

    def walk(item: Branch | CountView) -> ElementId:
        if isinstance(item, CountView):
            rows[item.id] = (item, [])
            return item.id
        rows[item.node.id] = (item.node, [])
        rows[item.node.id][1].extend(walk(child) for child in item.children)
        return item.node.id

    walk(tree)
    return rows


def patched(rows: Rows, found: TreeChanges) -> Rows:
    """Do to `rows` what a browser does with the patches."""
    if found.whole is not None:
        return flat(found.whole)

    def drop(key: ElementId) -> None:
        for child in rows.pop(key)[1]:
            drop(child)

    for key in found.removed:
        drop(key)
        for _, kids in rows.values():
            if key in kids:
                kids.remove(key)
    for new in found.added:
        if isinstance(new.branch, CountView):
            rows[new.branch.id] = (new.branch, [])
            rows[new.parent][1].append(new.branch.id)
        else:
            rows.update(flat(new.branch))
            rows[new.parent][1].append(new.branch.node.id)
    for row in found.rows:
        rows[row.id] = (row, rows[row.id][1])
    return rows


@st.composite
def trees(draw: st.DrawFn) -> Branch:
    facts = [ROOT]
    supervisors = ["root"]
    for number in draw(st.permutations(range(8))):
        if not draw(st.booleans()):
            continue
        strategy = draw(st.sampled_from([None, StrategyBadge.DYNAMIC]))
        new = fact(
            f"n{number}",
            draw(st.sampled_from(supervisors)),
            kind=draw(st.sampled_from(["Worker", "Stream"])),
            strategy=strategy,
            incarnation=draw(st.integers(1, 2)),
        )
        facts.append(new)
        if strategy and new.row.kind != "Stream":
            supervisors.append(new.row.id)
    return tree_of(facts, counted=frozenset({"Stream"}))


@given(trees(), trees())
def test_the_patches_lead_from_any_tree_to_any_other(before: Branch, after: Branch) -> None:
    # LAB-10
    assert patched(flat(before), changes(before, after)) == flat(after)
