// The client without a server: a socket that does what the test says, and the test's own time.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, mock, test } from "node:test";

import { GreenroomClient, GreenroomError } from "../../../web/client/greenroom.js";

const FRAMES = JSON.parse(readFileSync(new URL("../frames.json", import.meta.url)));
const frame = (name) => JSON.parse(FRAMES.find((one) => one.name === name).frame);

let sockets = [];

class FakeSocket {
  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    this.protocol = "";
    this.sent = [];
    this.closed = null;
    sockets.push(this);
  }
  send(data) {
    this.sent.push(JSON.parse(data));
  }
  close(code) {
    this.closed = code ?? 0;
  }
  open(protocol = this.protocols?.[0] ?? "") {
    this.protocol = protocol;
    this.onopen({});
  }
  say(message) {
    this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  end(code = 1006, reason = "") {
    this.onclose({ code, reason });
  }
}

const last = () => sockets.at(-1);
const settled = async () => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};
const pass = async (ms) => {
  mock.timers.tick(ms);
  await settled();
};
const outcome = (promise) => {
  const found = { value: undefined, error: undefined };
  promise.then((value) => (found.value = value), (error) => (found.error = error));
  return found;
};

async function connected(options = {}) {
  const client = new GreenroomClient("ws://here/ws", { WebSocket: FakeSocket, ...options });
  const told = { state: [], error: [], gap: [] };
  for (const name of Object.keys(told)) client.on(name, (what) => told[name].push(what));
  const ready = client.connect();
  await settled();
  last().open();
  await ready;
  return { client, told, socket: last() };
}

beforeEach(() => {
  sockets = [];
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  mock.method(Math, "random", () => 0.999999);
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

test("WEB-50: it names itself, its subprotocol, and says what the server can do", async () => {
  const { client, socket } = await connected({ client: "me", token: () => "once" });
  assert.equal(socket.url, "ws://here/ws?client=me&ticket=once");
  assert.deepEqual(socket.protocols, ["greenroom.v1"]);
  assert.equal(client.state, "open");
  assert.deepEqual(client.features, { ids: true, resume: true });
});

test("WEB-50: what it sends is what the server's own tests take", async () => {
  const { client, socket } = await connected();
  client.subscribe("orders", () => {});
  client.command({ PlaceOrder: { n: 1 } }, { topic: "orders" });
  const { resume: _, ...subscribe } = frame("v1 subscribe");
  const command = { ...frame("v1 command"), id: "c2" };
  assert.deepEqual(socket.sent, [subscribe, command]);
  assert.deepEqual(Object.keys(socket.sent[1]), Object.keys(command));
});

test("WEB-50: a promise ends with the ack, or with the error of its id", async () => {
  const { client, socket } = await connected();
  const [good, bad] = [outcome(client.command("A")), outcome(client.command("B"))];
  socket.say({ ...frame("v1 ack"), id: "c1" });
  socket.say({ ...frame("v1 error"), id: "c2" });
  await settled();
  assert.deepEqual(good.value, { result: { n: 7 }, position: "1234.567" });
  assert.ok(bad.error instanceof GreenroomError);
  assert.deepEqual([bad.error.code, bad.error.retryAfter], ["TOO_MANY_REQUESTS", 2]);
  assert.equal(client.state, "open");
});

test("WEB-51: 1 s doubling to 30 s with full jitter, and from the start after 10 s of calm", async () => {
  const { socket } = await connected();
  socket.end();
  const waits = [];
  for (const most of [1, 2, 4, 8, 16, 30, 30]) {
    const before = sockets.length;
    await pass(most * 1000 - 500);
    assert.equal(sockets.length, before, `before ${most} s`);
    await pass(500);
    assert.equal(sockets.length, before + 1, `after ${most} s`);
    last().end();
    await settled();
    waits.push(most);
  }
  await pass(30_000);
  last().open();
  await pass(10_000);
  const before = sockets.length;
  last().end();
  await pass(1000);
  assert.equal(sockets.length, before + 1);
});

test("WEB-51: after 1001 and 1012 within 5 s, whatever came before", async () => {
  for (const code of [1001, 1012]) {
    const { socket } = await connected();
    const before = sockets.length;
    socket.end(code, "the server restarts");
    await pass(4900);
    assert.equal(sockets.length, before);
    await pass(100);
    assert.equal(sockets.length, before + 1);
  }
});

test("WEB-51: never again after 1008, 4401 and 4403", async () => {
  for (const code of [1008, 4401, 4403]) {
    const { client, told, socket } = await connected();
    const open = outcome(client.command("A"));
    const before = sockets.length;
    socket.end(code, "not you");
    await pass(3_600_000);
    assert.equal(sockets.length, before);
    assert.equal(client.state, "closed");
    assert.deepEqual([told.error.length, told.error[0].message], [1, "not you"]);
    assert.equal(open.error.code, `CLOSE_${code}`);
  }
});

test("WEB-51: commands wait offline, go out once, in order, with their ids; one more is refused", async () => {
  const { client, socket } = await connected();
  const sent = outcome(client.command("First"));
  socket.end();
  const kept = Array.from({ length: 99 }, (_, n) => outcome(client.command({ Next: { n } })));
  const tooMany = outcome(client.command("TooMany"));
  await settled();
  assert.equal(tooMany.error.code, "QUEUE_FULL");
  await pass(1000);
  last().open();
  const ids = last().sent.map((one) => one.id);
  assert.deepEqual(ids, Array.from({ length: 100 }, (_, n) => `c${n + 1}`));
  for (const id of ids) last().say({ type: "ack", id, result: null, position: null });
  await settled();
  assert.ok(sent.value && kept.every((one) => one.value));
  last().end();
  await pass(2000);
  last().open();
  assert.deepEqual(last().sent, []);
});

test("WEB-40: what is not answered in time fails, and is not sent again", async () => {
  const { client, socket } = await connected();
  const slow = outcome(client.command("Slow", { timeout: 50 }));
  await pass(50);
  assert.equal(slow.error.code, "TIMEOUT");
  socket.end();
  await pass(1000);
  last().open();
  assert.deepEqual(last().sent, []);
});

test("WEB-41: a command that nobody remembers any more is not sent again", async () => {
  const { client, socket } = await connected();
  const old = outcome(client.command("Old", { timeout: 3_600_000 }));
  socket.end();
  await pass(10 * 60_000);
  last().open();
  await settled();
  assert.equal(old.error.code, "TIMEOUT");
  assert.deepEqual(last().sent, []);
});

test("WEB-51: a command refused by a draining server goes to the next", async () => {
  const { client, socket } = await connected();
  const post = outcome(client.command("Post"));
  socket.say({ type: "error", message: "The server restarts", code: "SHUTTING_DOWN", id: "c1" });
  socket.end(1001);
  await pass(5000);
  last().open();
  assert.deepEqual(last().sent.map((one) => one.id), ["c1"]);
  last().say({ type: "ack", id: "c1", result: 1, position: null });
  await settled();
  assert.equal(post.value.result, 1);
});

const event = (seq, more = {}) => ({ ...frame("v1 event"), seq, ...more });
const granted = (seq, recovered, epoch = "k3") => ({
  type: "subscribed", topics: ["orders"], positions: { orders: { epoch, seq, recovered } },
});

test("WEB-42: a subscription goes on from its last event, and what came twice is heard once", async () => {
  const { client, told, socket } = await connected();
  const heard = [];
  client.subscribe("orders", (_, { seq }) => heard.push(seq));
  socket.say({ ...granted(44, false), id: "c1" });
  socket.say(event(45));
  socket.say(event(45));
  socket.end();
  await pass(1000);
  last().open();
  assert.deepEqual(last().sent[0].resume, { orders: { epoch: "k3", seq: 45 } });
  last().say({ ...granted(47, true), id: "c2" });
  for (const seq of [46, 47, 48]) last().say(event(seq));
  assert.deepEqual(heard, [45, 46, 47, 48]);
  assert.deepEqual(told.gap, []);
});

test("WEB-51: what cannot be recovered is a gap, told once", async () => {
  const { client, told, socket } = await connected();
  const heard = [];
  client.subscribe("orders", (_, { seq }) => heard.push(seq));
  socket.say({ ...granted(44, false), id: "c1" });
  socket.end();
  await pass(1000);
  last().open();
  last().say({ ...granted(3, false, "other"), id: "c2" });
  last().say(event(4, { epoch: "other" }));
  assert.deepEqual(told.gap, [{ topic: "orders" }]);
  assert.deepEqual(heard, [4]);
});

test("WEB-42: a hole that `prev` shows is asked for before anything later is heard", async () => {
  const { client, socket } = await connected();
  const heard = [];
  client.subscribe("orders", (_, { seq }) => heard.push(seq));
  socket.say({ ...granted(40, false), id: "c1" });
  socket.say(event(43, { prev: 40 }));
  socket.say(event(47, { prev: 45 }));
  socket.say(event(48, { prev: 47 }));
  assert.deepEqual(socket.sent.at(-1).resume, { orders: { epoch: "k3", seq: 43 } });
  assert.equal(socket.sent.length, 2);
  socket.say({ ...granted(48, true), id: "c2" });
  for (const [seq, prev] of [[45, 43], [47, 45], [48, 47]]) socket.say(event(seq, { prev }));
  assert.deepEqual(heard, [43, 45, 47, 48]);
});

test("WEB-52: it asks after 20 s of silence, and leaves after 45", async () => {
  const { client, socket } = await connected();
  await pass(19_000);
  assert.deepEqual(socket.sent, []);
  await pass(1000);
  assert.deepEqual(socket.sent, [{ type: "ping" }]);
  socket.say({ type: "pong" });
  await pass(44_000);
  assert.equal(socket.closed, null);
  await pass(1000);
  assert.notEqual(socket.closed, null);
  assert.equal(client.state, "waiting");
  socket.say(event(1));
  await pass(1000);
  assert.notEqual(last(), socket);
});

test("WEB-33: a ping of the server is answered", async () => {
  const { socket } = await connected();
  socket.say(frame("server ping"));
  assert.deepEqual(socket.sent, [{ type: "pong" }]);
});

test("WEB-52: malformed data is an error and changes nothing", async () => {
  const { client, told, socket } = await connected();
  const heard = [];
  client.subscribe("orders", (_, { seq }) => heard.push(seq));
  socket.say({ ...granted(44, false), id: "c1" });
  const bad = [
    "", "{", "null", "[]", "7", '{"type":"nothing"}', '{"type":"event"}', '{"type":"ack"}',
    { type: "event", action: "A", topic: "orders", seq: "45", epoch: "k3" },
    { type: "event", action: null, topic: "orders", seq: 45, epoch: "k3" },
    { type: "subscribed", topics: ["orders"], positions: { orders: null } },
    { type: "subscribed", topics: "orders" },
  ];
  for (const data of bad) socket.say(data);
  assert.equal(told.error.length, bad.length);
  assert.ok(told.error.every((one) => one.code === "BAD_DATA"));
  socket.say(event(45));
  assert.deepEqual([heard, client.state], [[45], "open"]);
});

test("WEB-52: a plain server is spoken to plainly, at once, and said to be one", async () => {
  const client = new GreenroomClient("ws://here/ws", { WebSocket: FakeSocket });
  const ready = client.connect();
  const heard = [];
  client.subscribe("default", (action) => heard.push(action));
  await settled();
  last().end();
  await settled();
  assert.equal(last().protocols, undefined);
  last().open();
  await ready;
  assert.deepEqual(client.features, { ids: false, resume: false });
  const command = outcome(client.command("Increment"));
  await settled();
  assert.deepEqual(last().sent, [
    { type: "subscribe", topics: ["default"] }, frame("command without fields"),
  ]);
  assert.deepEqual(command.value, { result: null, position: null });
  last().say({ type: "subscribed", topics: ["default"] });
  last().say(frame("event"));
  assert.deepEqual(heard, [{ OrderPlaced: { n: 7 } }]);
});

test("WEB-52: a server that was away is asked for greenroom.v1 again", async () => {
  const client = new GreenroomClient("ws://here/ws", { WebSocket: FakeSocket });
  client.connect();
  await settled();
  for (let round = 0; round < 3; round += 1) {
    assert.deepEqual(last().protocols, ["greenroom.v1"]);
    last().end();
    await settled();
    last().end();
    await pass(30_000);
  }
  assert.deepEqual(last().protocols, ["greenroom.v1"]);
  client.close();
});

test("WEB-51: a listener that throws stops nothing", async () => {
  mock.method(console, "error", () => {});
  const { client, socket } = await connected();
  const heard = [];
  client.subscribe("orders", () => { throw new Error("mine"); });
  client.subscribe("orders", (_, { seq }) => heard.push(seq));
  socket.say({ ...granted(44, false), id: "c1" });
  socket.say(event(45));
  assert.deepEqual(heard, [45]);
});

test("WEB-50: closed by its owner it leaves no timer and answers everybody", async () => {
  const { client, told, socket } = await connected();
  const open = outcome(client.command("A"));
  client.close();
  await settled();
  assert.equal(open.error.code, "CLOSED");
  assert.equal(socket.closed, 1000);
  const late = outcome(client.command("B"));
  await pass(3_600_000);
  assert.equal(late.error.code, "CLOSED");
  assert.deepEqual([sockets.length, told.error], [1, []]);
  assert.deepEqual(told.state, ["connecting", "open", "closed"]);
});

test("WEB-50: the end of the last handler ends the topic", async () => {
  const { client, socket } = await connected();
  const [one, two] = [client.subscribe("a", () => {}), client.subscribe("a", () => {})];
  one();
  assert.equal(socket.sent.length, 1);
  two();
  assert.deepEqual(socket.sent.at(-1), { type: "unsubscribe", topics: ["a"] });
});
