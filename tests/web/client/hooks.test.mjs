// The hooks with real React, in its strict mode; the client is a stand-in that the test drives.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as React from "react";
import renderer, { act } from "react-test-renderer";

import { makeHooks } from "./react.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

class Driven {
  state = "open";
  handlers = new Map();
  commands = [];
  #add(name, handler) {
    const all = this.handlers.get(name) ?? new Set();
    this.handlers.set(name, all.add(handler));
    return () => all.delete(handler);
  }
  subscribe(topic, handler) {
    return this.#add(`topic ${topic}`, handler);
  }
  on(name, handler) {
    return this.#add(name, handler);
  }
  tell(name, ...what) {
    for (const handler of this.handlers.get(name) ?? []) handler(...what);
  }
  count() {
    return [...this.handlers.values()].reduce((sum, all) => sum + all.size, 0);
  }
  command(action) {
    return new Promise((resolve, reject) => this.commands.push({ action, resolve, reject }));
  }
}

const { useTopic, useCommand } = makeHooks(React);

async function shown(client, hook) {
  const seen = [];
  function Shows() {
    seen.push(hook(client));
    return null;
  }
  let root;
  await act(() => {
    root = renderer.create(React.createElement(React.StrictMode, null, React.createElement(Shows)));
  });
  return { seen, root, last: () => seen.at(-1) };
}

test("WEB-53: a topic's events once each, the newest 200, its state, its gaps", async () => {
  const client = new Driven();
  const { root, last, seen } = await shown(client, (one) => useTopic(one, "room:lobby"));
  assert.equal(client.count(), 4);
  await act(() => {
    for (let seq = 1; seq <= 250; seq += 1) client.tell("topic room:lobby", "A", { seq });
  });
  assert.equal(last().events.length, 200);
  assert.deepEqual([last().events[0].seq, last().last.seq], [51, 250]);
  await act(() => {
    client.tell("state", "waiting");
    client.tell("gap", { topic: "another" });
  });
  assert.deepEqual([last().state, last().gap], ["waiting", false]);
  await act(() => client.tell("gap", { topic: "room:lobby" }));
  assert.equal(last().gap, true);
  const handlers = [...client.handlers.get("topic room:lobby")];
  await act(() => root.unmount());
  assert.equal(client.count(), 0);
  const before = seen.length;
  await act(() => handlers.forEach((handler) => handler("late", { seq: 251 })));
  assert.equal(seen.length, before);
});

test("WEB-53: a command is pending, done or refused; only the newest is shown", async () => {
  const client = new Driven();
  const { root, last, seen } = await shown(client, useCommand);
  const [send] = last();
  let first;
  await act(() => { first = send("First"); });
  assert.deepEqual(last()[1], { pending: true, error: null, result: null });
  let second;
  await act(() => { second = send("Second"); });
  await act(async () => {
    client.commands[0].resolve({ result: 1, position: null });
    await first;
  });
  assert.equal(last()[1].pending, true);
  await act(async () => {
    client.commands[1].reject(new Error("no"));
    await assert.rejects(second, /no/);
  });
  assert.deepEqual([last()[1].pending, last()[1].error.message], [false, "no"]);
  assert.equal(last()[0], send);
  let third;
  await act(() => { third = send("Third"); });
  await act(() => root.unmount());
  const before = seen.length;
  client.commands[2].resolve({ result: 3, position: null });
  assert.equal((await third).result, 3);
  assert.equal(seen.length, before);
});
