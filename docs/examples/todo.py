"""A list of things to do, kept as events, in step on every page that shows it.

`greenroom example todo`; open it in two windows and write in one of them. Read `TodoList` first:
it decides, and knows no page, store or clock. Then `Todos`, the actor around it, and the routes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import assert_never

from quart import Blueprint, redirect, request
from quart.typing import ResponseReturnValue

from actors.persistence import (
    Aggregate,
    AggregateActor,
    Decision,
    Refusal,
    ask_state,
    event,
    execute,
)
from actors.reducers import Environment
from supervision import ChildSpec
from web.app import OwnSite, Panel, SitePlan, serve_site

TITLE_CHARS_MAX = 500
# What a person overlooks on one page; the panel is sent whole with each change.
TODOS_MAX = 200


@dataclass(frozen=True)
class CreateTodo:
    todo_id: str
    title: str


@dataclass(frozen=True)
class CompleteTodo:
    todo_id: str


@dataclass(frozen=True)
class DeleteTodo:
    todo_id: str


@event()
@dataclass(frozen=True)
class TodoCreated:
    todo_id: str
    title: str


@event()
@dataclass(frozen=True)
class TodoCompleted:
    todo_id: str


@event()
@dataclass(frozen=True)
class TodoDeleted:
    todo_id: str


@dataclass(frozen=True)
class Todo:
    title: str
    is_done: bool = False


State = Mapping[str, Todo]  # by their ids, oldest first
Command = CreateTodo | CompleteTodo | DeleteTodo
Happened = TodoCreated | TodoCompleted | TodoDeleted


class TodoList(Aggregate[State, Command, Happened]):
    category, state_type = "todo", dict

    def initial(self) -> State:
        return {}

    def decide(self, state: State, command: Command, env: Environment) -> Decision[Happened]:
        match command:
            case CreateTodo(todo_id, title):
                refused = _why_not(state, todo_id, title.strip())
                return refused or [TodoCreated(todo_id, title.strip())]
            case CompleteTodo(todo_id) | DeleteTodo(todo_id) if todo_id not in state:
                return Refusal("unknown", "There is no such todo.")
            case CompleteTodo(todo_id) if state[todo_id].is_done:
                return Refusal("completed", "This todo is completed already.")
            case CompleteTodo(todo_id):
                return [TodoCompleted(todo_id)]
            case DeleteTodo(todo_id):
                return [TodoDeleted(todo_id)]
        assert_never(command)

    def apply(self, state: State, event: Happened) -> State:
        match event:
            case TodoCreated(todo_id, title):
                return {**state, todo_id: Todo(title)}
            case TodoCompleted(todo_id):
                return {**state, todo_id: replace(state[todo_id], is_done=True)}
            case TodoDeleted(todo_id):
                return {id_: todo for id_, todo in state.items() if id_ != todo_id}
        assert_never(event)


def _why_not(state: State, todo_id: str, title: str) -> Refusal | None:
    if todo_id in state:
        return Refusal("duplicate", "There is a todo of this id already.")
    if not title:
        return Refusal("empty", "A todo needs a title.")
    if len(title) > TITLE_CHARS_MAX:
        return Refusal("too-long", f"A title has at most {TITLE_CHARS_MAX} characters.")
    if len(state) >= TODOS_MAX:
        return Refusal("full", f"There are {TODOS_MAX} todos; delete one first.")
    return None


class Todos(AggregateActor[State, Command, Happened]):
    """By this class a page asks for it."""


def tree(site: OwnSite) -> list[ChildSpec]:
    todos = partial(Todos, TodoList(), "everyone", site.store, site.environment, topic="todos")
    return [ChildSpec("todos", todos, name="todos")]


# The page: forms that work without a script, and one panel that follows the topic.

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Todos</title>
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{{ file_url('examples.css') }}">
<h1>Todos</h1>
<form method="post" action="/create">{{ csrf }}
<input type="hidden" name="todo_id" value="{{ new_id }}">
<label>What is to be done? <input name="title" value="{{ title }}" autofocus></label>
<button>Add</button></form>
<p role="status">{{ said }}</p>
<form method="post" id="change">{{ csrf }}</form>
{{ panel.todos }}{{ live }}</html>"""

LIST = """<p>{{ open }} of {{ todos | length }} to be done</p>
<ul>{% for id, todo in todos.items() %}<li>
{% if todo.is_done %}<s>{{ todo.title }}</s>{% else %}<span>{{ todo.title }}</span>
<button form="change" formaction="/complete" name="todo_id" value="{{ id }}"
aria-label="Complete {{ todo.title }}">Complete</button>{% endif %}
<button form="change" formaction="/delete" name="todo_id" value="{{ id }}"
aria-label="Delete {{ todo.title }}">Delete</button></li>{% endfor %}</ul>"""


async def todos_of(site: OwnSite) -> State:
    _, todos = await ask_state(site.ref("todos", Todos))
    assert isinstance(todos, dict)
    return todos


def panels(site: OwnSite) -> list[Panel]:
    async def shown() -> str:
        todos = await todos_of(site)
        left = sum(not todo.is_done for todo in todos.values())
        return site.render(LIST, todos=todos, open=left)

    return [Panel("todos", topic="todos", render=shown)]


def pages(site: OwnSite) -> Blueprint:
    routes = Blueprint("todos", __name__)

    async def page(said: str = "", title: str = "", status: int = 200) -> ResponseReturnValue:
        # A form that is sent twice asks for one todo.
        new_id = str(site.environment.ids.new_id())
        return await site.page(
            PAGE, panels=["todos"], status=status, said=said, title=title, new_id=new_id
        )

    async def carry_out(command: Command, title: str = "") -> ResponseReturnValue:
        done = await execute(site.ref("todos", Todos), command)
        if isinstance(done, Refusal):
            return await page(done.message, title, 422)
        return redirect("/", 303)

    @routes.get("/")
    async def home() -> ResponseReturnValue:
        return await page()

    @routes.post("/create")
    async def create() -> ResponseReturnValue:
        form = await request.form
        command = CreateTodo(form.get("todo_id", ""), form.get("title", ""))
        return await carry_out(command, command.title)

    @routes.post("/complete")
    async def complete() -> ResponseReturnValue:
        return await carry_out(CompleteTodo((await request.form).get("todo_id", "")))

    @routes.post("/delete")
    async def delete() -> ResponseReturnValue:
        return await carry_out(DeleteTodo((await request.form).get("todo_id", "")))

    return routes


PLAN = SitePlan(
    name="todo", tree=tree, pages=pages, panels=panels, files=Path(__file__).parent / "static"
)
if __name__ == "__main__":
    raise SystemExit(serve_site(PLAN))
