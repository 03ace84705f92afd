"""Programs in other languages read what we publish: those of the guide, on a real broker.

Run by `make kafka`; elsewhere, and where Node or Java are missing, the summary says "not run".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.storage.kafka_broker import missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

from actors.persistence.bus import CloudEvents, OnFailure, Record, partition_for
from storage.bus import MemoryBus
from storage.bus.kafka import KafkaBus
from storage.bus.kafka_words import KafkaSettings
from storage.testing.bus import Heard, options, subscribed
from tests.patience import PATIENCE_S

_ROOT = Path(__file__).parents[2]
_GUIDE = _ROOT / "docs" / "how_to" / "redpanda.md"
# Installed by `make kafka`.
_PACKAGES = _ROOT / "build" / "kafka" / "clients" / "node_modules"
COUNT = 60
SOURCE = "https://shop.example"

# What a library of others makes of our headers.
_AS_CLOUD_EVENTS = """
import { Kafka as Binding } from "cloudevents";
const asEvent = (message) => {
  const headers = Object.fromEntries(
    Object.entries(message.headers).map(([name, text]) => [name, text.toString()]));
  const found = Binding.toEvent({ key: message.key.toString(), value: message.value.toString(),
    body: message.value.toString(), headers });
  found.validate();
  return found;
};
"""


def block(language: str) -> str:
    """The program that the guide shows in a language."""
    (found,) = blocks(language, 1)
    return found


def blocks(language: str, count: int) -> list[str]:
    """All that it shows in a language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", _GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == count, f"the guide has {len(found)} programs in {language}"
    return [str(one) for one in found]


@contextmanager
def running(command: Sequence[str], folder: Path, brokers: str, topic: str) -> Iterator[Path]:
    """Run a reader in a process of its own; gives the file that it writes."""
    output = folder / "output"
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "KAFKA_BROKERS": brokers,
        "TOPIC": topic,
    }
    with output.open("wb") as out, (folder / "errors").open("wb") as err:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
        try:
            yield output
            # In order: who reads next in its group need not wait until it is taken for dead.
            process.terminate()
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()


async def lines_of(output: Path, count: int) -> list[str]:
    """Wait until a reader has written so many; what it complained of is told."""
    lines: list[str] = []
    with trio.move_on_after(PATIENCE_S):
        while len(lines) < count:
            await trio.sleep(0.05)
            told = await trio.Path(output).read_text()
            # Of the last one it may have written half.
            lines = told[: told.rfind("\n") + 1].splitlines()
    assert len(lines) >= count, (output.parent / "errors").read_text()
    return lines


async def published(brokers: str, prefix: str, marks: CloudEvents | None = None) -> list[Record]:
    """Records of some keys, so many that a batch is compressed."""
    beside = MemoryBus()
    settings = KafkaSettings(brokers, prefix=prefix)
    bus = KafkaBus(settings, parking=beside.parking, dead_letters=beside.dead_letters)
    await bus.declare("order-events")
    headers = {"event_type": "OrderPlaced", "version": "1"}
    sent = [
        Record(uuid4(), f"order-{n % 7}", b'{"seats": %d, "for": "Zo\xc3\xab"}' % n, headers)
        for n in range(COUNT)
    ]
    marked = sent if marks is None else [marks.of("order-events", one) for one in sent]
    await bus.publish_batch("order-events", marked)
    await bus.close()
    return sent


def facts(sent: Sequence[Record]) -> set[tuple[str, str, str, int, str]]:
    return {_facts(str(one.event_id), one.key, json.loads(one.value)) for one in sent}


def _facts(id_: str, key: str, body: Mapping[str, object]) -> tuple[str, str, str, int, str]:
    assert isinstance(body["seats"], int)
    return id_, "OrderPlaced", key, body["seats"], str(body["for"])


def in_order(found: Sequence[tuple[str, int]]) -> bool:
    """Whether the records of each key came as they were published."""
    seats: dict[str, list[int]] = {}
    for key, number in found:
        seats.setdefault(key, []).append(number)
    return all(numbers == sorted(numbers) for numbers in seats.values())


@pytest.fixture
def node(tmp_path: Path) -> str:
    """Node, where the packages of npm are found."""
    found = shutil.which("node")
    if found is None or not _PACKAGES.is_dir():
        pytest.skip("not run: no Node, or not its packages; `make kafka` installs them")
    (tmp_path / "node_modules").symlink_to(_PACKAGES)
    return found


async def test_the_reader_in_javascript_reads_what_we_publish(
    brokers: str, node: str, tmp_path: Path
) -> None:
    # BUS-2, BUS-15
    prefix = f"{uuid4()}-"
    sent = await published(brokers, prefix)
    (tmp_path / "reader.mjs").write_text(block("js"))
    with running([node, "reader.mjs"], tmp_path, brokers, f"{prefix}order-events") as output:
        told = [json.loads(line) for line in await lines_of(output, COUNT)]
    assert len(told) == COUNT
    assert {one["type"] for one in told} == {"OrderPlaced"}
    assert {_facts(one["id"], one["key"], one["body"]) for one in told} == facts(sent)
    assert in_order([(one["key"], one["body"]["seats"]) for one in told])


async def test_the_reader_in_java_reads_what_we_publish(brokers: str, tmp_path: Path) -> None:
    # BUS-2, BUS-15
    jars, java = os.environ.get("KAFKA_JARS"), shutil.which("java")
    if not jars or java is None:
        pytest.skip("not run: no Java, or not the jars of `make kafka`")
    prefix = f"{uuid4()}-"
    sent = await published(brokers, prefix)
    (tmp_path / "Reader.java").write_text(block("java"))
    command = [java, "-cp", f"{_ROOT / jars}/*", "Reader.java"]
    with running(command, tmp_path, brokers, f"{prefix}order-events") as output:
        told = [line.split("\t") for line in await lines_of(output, COUNT)]
    assert {kind for _, kind, _, _ in told} == {"OrderPlaced"}
    bodies = [(id_, key, json.loads(body)) for id_, _, key, body in told]
    assert {_facts(id_, key, body) for id_, key, body in bodies} == facts(sent)
    assert in_order([(key, body["seats"]) for _, key, body in bodies])


async def test_a_library_of_others_reads_our_cloud_events(
    brokers: str, node: str, tmp_path: Path
) -> None:
    # BUS-15: the CloudEvents project's own, which validates each
    prefix = f"{uuid4()}-"
    sent = await published(brokers, prefix, CloudEvents(SOURCE))
    program = block("js").replace(
        "key: message.key.toString(), body }", "event: asEvent(message).toJSON() }"
    )
    assert "asEvent" in program
    (tmp_path / "reader.mjs").write_text(_AS_CLOUD_EVENTS + program)
    with running([node, "reader.mjs"], tmp_path, brokers, f"{prefix}order-events") as output:
        told = [json.loads(line)["event"] for line in await lines_of(output, COUNT)]
    by_id = {str(one.event_id): one for one in sent}
    assert {one["id"] for one in told} == by_id.keys()
    for one in told:
        record = by_id[one["id"]]
        assert (one["specversion"], one["type"], one["source"]) == ("1.0", "OrderPlaced", SOURCE)
        assert (one["subject"], one["partitionkey"], one["sequence"]) == (
            record.key, record.key, "1",
        )  # fmt: skip
        assert one["datacontenttype"] == "application/json"
        assert one["data"] == json.loads(record.value)


async def test_kcat_reads_what_we_publish_and_we_what_it_does(brokers: str) -> None:
    # BUS-2, BUS-3, BUS-15
    if shutil.which("kcat") is None:
        pytest.skip("not run: no kcat; apt install kcat")
    reading, writing = blocks("sh", 2)
    prefix, event_id = f"{uuid4()}-", uuid4()
    sent = await published(brokers, prefix)
    environment = {
        "PATH": os.environ["PATH"],
        "KAFKA_BROKERS": brokers,
        "TOPIC": f"{prefix}order-events",
        "EVENT_ID": str(event_id),
    }

    async def run(script: str) -> str:
        with trio.fail_after(PATIENCE_S):
            done = await trio.run_process(
                ["/bin/sh", "-ec", script], env=environment, capture_stdout=True
            )
        return done.stdout.decode()

    told = [line.split("\t") for line in (await run(reading)).splitlines()]
    found = []
    for headers, key, body in told:
        named = dict(one.split("=", 1) for one in headers.split(","))
        assert named["event_type"] == "OrderPlaced"
        found.append((named["event_id"], key, json.loads(body)))
    assert {_facts(id_, key, body) for id_, key, body in found} == facts(sent)
    assert in_order([(key, body["seats"]) for _, key, body in found])
    await run(writing)
    heard = Heard()
    beside = MemoryBus()
    settings = KafkaSettings(brokers, prefix=prefix)
    bus = KafkaBus(settings, parking=beside.parking, dead_letters=beside.dead_letters)
    topics = ("order-events",)
    async with subscribed(bus, heard, options(on_failure=OnFailure.SKIP), topics=topics):
        await heard.count(COUNT + 1)
    await bus.close()
    (own,) = (one for one in heard.records if one.record.event_id == event_id)
    assert (own.record.key, json.loads(own.record.value)) == ("order-7", {"seats": 2})
    # It took the partition that we would have: the order of the key holds.
    assert own.partition == partition_for("order-7", 3)
