"""A collector of traces that is not ours: Jaeger takes what the site exports, and tells it again.

Started here where the program is there; `OTLP_ENDPOINT` names one that runs, and `JAEGER_QUERY`
where that one is asked, http://127.0.0.1:16686 unless it says so.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from actors.runtime.telling.spans import SpanRead
from tests.conformance.outside.lines import BUILD, Line, find, judged, not_run
from tests.processes.ports import free_port
from tests.web.lab.test_lab_site import a_guest
from tests.web.whole_site import WholeSite, in_thread, open_whole_site
from web.settings import Settings

NAME = "jaeger"
QUERY = "http://127.0.0.1:16686"
START_S_MAX, ANSWER_S_MAX = 60.0, 60.0
# Kept by its id.
TRACE, ABOVE = f"{'a' * 24}{10:08x}", "00f067aa0ba902b7"

CONFIGURATION = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_storage: {backends: {some: {memory: {max_traces: 1000}}}}
  jaeger_query:
    storage: {traces: some}
    http: {endpoint: "127.0.0.1:%(query)d"}
    grpc: {endpoint: "127.0.0.1:%(grpc)d"}
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:%(otlp)d"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: some}}
"""


async def run() -> Line:
    """Call this to have a site export to it, and to compare."""
    named = os.environ.get("OTLP_ENDPOINT")
    if named is not None:
        return await _against(named, os.environ.get("JAEGER_QUERY", QUERY))
    program = find("jaeger", "JAEGER")
    if program is None:
        return not_run(NAME, "jaeger")
    async with _started(program) as (endpoint, query):
        return await _against(endpoint, query)


@asynccontextmanager
async def _started(program: str) -> AsyncIterator[tuple[str, str]]:
    folder = BUILD / NAME
    folder.mkdir(parents=True, exist_ok=True)
    ports = {name: free_port() for name in ("otlp", "query", "grpc")}
    (folder / "config.yaml").write_text(CONFIGURATION % ports)
    command = [program, "--config", str(folder / "config.yaml")]
    with (folder / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            query = f"http://127.0.0.1:{ports['query']}"
            with trio.move_on_after(START_S_MAX):
                while process.poll() is None and await _asked(f"{query}/api/services") is None:  # noqa: ASYNC110 - it tells nobody
                    await trio.sleep(0.2)
            yield f"http://127.0.0.1:{ports['otlp']}", query
        finally:
            process.terminate()
            await process.wait()


async def _asked(url: str) -> Mapping[str, object] | None:
    """What it answers; None while it does not."""
    async with httpx.AsyncClient(timeout=5.0) as client:
        try:
            answer = await client.get(url)
        except httpx.TransportError:
            return None
    if answer.status_code != 200:
        return None
    return msgspec.json.decode(answer.content, type=dict[str, object])


async def _against(endpoint: str, query: str) -> Line:
    settings = Settings(
        port=0, overload_late_ms=60_000, overload_after_ms=60_000, otlp_endpoint=endpoint
    )
    async with (
        open_whole_site(settings=settings, has_documents=False) as site,
        a_guest(site) as guest,
    ):
        given: dict[str, object] = {"commandId": "c1", "sseTabId": guest.visitor.tab}
        header = {"traceparent": f"00-{TRACE}-{ABOVE}-01"}
        act = partial(guest.visitor.command, "/api/lab/sagas", given, **header)
        answer = await in_thread(act)
        if answer.status != 202:
            return judged(NAME, [f"the site answered {answer.status}"], "")
        return await _compared(site, f"{query}/api/traces/{TRACE}", urlsplit(query).netloc)


async def _compared(site: WholeSite, url: str, place: str) -> Line:
    theirs: dict[str, tuple[str, str]] = {}
    ours: dict[str, tuple[str, str]] = {}
    with trio.move_on_after(ANSWER_S_MAX):
        while not ours or ours != theirs or "saga.step" not in {name for name, _ in ours.values()}:
            await trio.sleep(0.5)
            ours = {one.span: (one.name, one.parent) for one in _kept(site)}
            theirs = read(await _asked(url))
    problems = [f"{len(ours.items() - theirs.items())} spans of {len(ours)} are not there"]
    if ours and ours == theirs:
        problems = []
    return judged(NAME, problems, f"{len(theirs)} spans, each below what caused it, at {place}")


def _kept(site: WholeSite) -> list[SpanRead]:
    kept, spans = site.web.traces.kept.maybe(TRACE), site.web.traces.spans
    return [] if kept is None or spans is None else [spans.read(one) for one in kept.records]


class _Reference(msgspec.Struct, rename="camel"):
    span_id: str = msgspec.field(name="spanID")


class _Span(msgspec.Struct):
    id: str = msgspec.field(name="spanID")
    name: str = msgspec.field(name="operationName")
    references: list[_Reference] = []


class _Trace(msgspec.Struct):
    spans: list[_Span]


def read(answer: Mapping[str, object] | None) -> dict[str, tuple[str, str]]:
    """Call this for its spans: by the id the name and what it stands below, as Jaeger says it."""
    if answer is None:
        return {}
    found = msgspec.convert(answer.get("data") or [], list[_Trace])
    return {
        one.id: (one.name, one.references[0].span_id if one.references else "")
        for trace in found
        for one in trace.spans
    }
