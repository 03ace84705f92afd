"""The todo example: what it decides, and its forms, on both stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st

from actors.persistence import Refusal
from actors.reducers import Reply
from actors.testing import fixed_environment, given
from docs.examples.todo import (
    TITLE_CHARS_MAX,
    TODOS_MAX,
    Command,
    CompleteTodo,
    CreateTodo,
    DeleteTodo,
    Happened,
    Todo,
    TodoCompleted,
    TodoCreated,
    TodoDeleted,
    TodoList,
)
from tests.journeys.site_process import ExampleProcess
from tests.journeys.visitor import Visitor

MILK = TodoCreated("a", "milk")


@pytest.mark.parametrize(
    ("before", "command", "events"),
    [
        ([], CreateTodo("a", "milk"), [MILK]),
        ([], CreateTodo("a", "  milk "), [MILK]),
        ([], CreateTodo("a", "x" * TITLE_CHARS_MAX), [TodoCreated("a", "x" * TITLE_CHARS_MAX)]),
        ([MILK], CreateTodo("b", "milk"), [TodoCreated("b", "milk")]),
        ([MILK], CompleteTodo("a"), [TodoCompleted("a")]),
        ([MILK], DeleteTodo("a"), [TodoDeleted("a")]),
        ([MILK, TodoCompleted("a")], DeleteTodo("a"), [TodoDeleted("a")]),
        ([MILK, TodoDeleted("a")], CreateTodo("a", "milk"), [MILK]),
    ],
)
def test_what_a_command_does(
    before: list[Happened], command: Command, events: list[Happened]
) -> None:  # EX-2
    given(TodoList(), *before).when(command).then(*events)


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        ([MILK], CreateTodo("a", "bread"), "duplicate"),
        ([MILK, TodoCompleted("a")], CreateTodo("a", "bread"), "duplicate"),
        ([], CreateTodo("a", ""), "empty"),
        ([], CreateTodo("a", " \t\n"), "empty"),
        ([], CreateTodo("a", "x" * (TITLE_CHARS_MAX + 1)), "too-long"),
        ([], CompleteTodo("a"), "unknown"),
        ([], DeleteTodo("a"), "unknown"),
        ([MILK, TodoDeleted("a")], CompleteTodo("a"), "unknown"),
        ([MILK, TodoDeleted("a")], DeleteTodo("a"), "unknown"),
        ([MILK, TodoCompleted("a")], CompleteTodo("a"), "completed"),
        ([TodoCreated(str(n), "x") for n in range(TODOS_MAX)], CreateTodo("a", "x"), "full"),
    ],
)
def test_what_is_refused(before: list[Happened], command: Command, code: str) -> None:  # EX-2
    given(TodoList(), *before).when(command).then_refused(code)


def test_what_it_knows_afterwards() -> None:  # EX-2
    bread = TodoCreated("b", "bread")
    (
        given(TodoList(), MILK, bread, TodoDeleted("a"))
        .when(CompleteTodo("b"))
        .then_state({"b": Todo("bread", is_done=True)})
    )


ids = st.sampled_from("abc")
commands = st.one_of(
    st.builds(CreateTodo, ids, st.sampled_from(["", "milk", "x" * 501])),
    st.builds(CompleteTodo, ids),
    st.builds(DeleteTodo, ids),
)


@generated(st.lists(commands, max_size=30))
def test_whatever_is_asked_titles_and_ids_stay_true(asked: list[Command]) -> None:  # EX-2
    todos, env = TodoList(), fixed_environment()
    state = todos.initial()
    for command in asked:
        before = state
        decided = todos.decide(state, command, env)
        if isinstance(decided, Refusal):
            continue
        assert not isinstance(decided, Reply)
        for happened in decided:
            state = todos.apply(state, happened)
        assert state != before
        assert (command.todo_id in state) != isinstance(command, DeleteTodo)
        assert all(0 < len(todo.title) <= TITLE_CHARS_MAX for todo in state.values())


# The page.


@pytest.fixture(params=["memory", "postgres"])
def todo(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> Iterator[ExampleProcess]:
    server = {"DATABASE_URL": database_url} if request.param == "postgres" else {}
    running = ExampleProcess("todo", request.param, tmp_path / "state", **server)
    yield running
    running.end()


@pytest.mark.slow
def test_a_form_that_is_sent_twice_makes_one_todo(todo: ExampleProcess) -> None:  # EX-2
    visitor = Visitor(todo.url)
    asked = {"todo_id": "the-same", "title": "milk"}
    assert visitor.form("/create", asked).status == 303
    again = visitor.form("/create", asked)
    assert again.status == 422
    assert "There is a todo of this id already." in again.text
    assert "1 of 1 to be done" in again.text
    for path, form, told in (
        ("/complete", {"todo_id": "other"}, "There is no such todo."),
        ("/delete", {}, "There is no such todo."),
        ("/create", {"todo_id": "new"}, "A todo needs a title."),
        ("/create", {}, "A todo needs a title."),
    ):
        refused = visitor.form(path, form)
        assert (refused.status, told in refused.text) == (422, True), path


@pytest.mark.slow
def test_on_postgresql_it_survives_kill_9_and_in_memory_it_does_not(
    tmp_path: Path, database_url: str
) -> None:  # EX-2
    for store, kept in (("postgres", True), ("memory", False)):
        server = {"DATABASE_URL": database_url} if store == "postgres" else {}
        todo = ExampleProcess("todo", store, tmp_path / store, **server)
        try:
            visitor = Visitor(todo.url)
            assert visitor.form("/create", {"todo_id": "a", "title": "milk"}).status == 303
            assert visitor.form("/complete", {"todo_id": "a"}).status == 303
            todo.kill()
            todo.restart()
            assert ("<s>milk</s>" in Visitor(todo.url).get("/").text) == kept
            assert todo.stop() == 0
        finally:
            todo.end()
