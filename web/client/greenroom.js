// A client of greenroom's WebSocket protocol, for browsers and for Node: an ES module on its own.
//
//   const client = new GreenroomClient("wss://example.org/ws");
//   client.subscribe("room:lobby", (action, event) => console.log(action, event.seq));
//   await client.connect();
//   await client.command({ PostMessage: { room: "lobby", body: "hello" } });
//
// What it promises:
// 1. Commands go out in the order they were given, and each is answered once: its promise ends
//    with the server's acknowledgement, with an error, or after its time-out. One that was under
//    way when the line was lost is sent again under its id, and the server carries it out once.
// 2. A subscription goes on where it ended. What cannot be recovered is told by "gap": load anew.
// 3. It comes back by itself, for ever, unless the server said that it must not.
//
// A server that does not speak `greenroom.v1` knows no ids and no resume: `features` says so, a
// command's promise ends when it is sent, and every new connection is a gap.

const PROTOCOL = "greenroom.v1";
const DELAY_FIRST_MS = 1000;
const DELAY_MOST_MS = 30_000;
// A connection that lived this long was a good one: the next loss starts again at one second.
const STEADY_MS = 10_000;
// All clients of a server that restarts must not come back in the same moment.
const RESTART_SPREAD_MS = 5000;
const ASK_MS = 20_000;
const SILENCE_MS_MAX = 45_000;
const QUEUE_MOST = 100;
const TIMEOUT_MS = 10_000;
// The server keeps answers for 10 minutes: later a command sent again might be carried out twice.
const REPEATABLE_MS = 9 * 60_000;

const RESTARTS = new Set([1001, 1012]);
// Misuse, a session that ended, a ban: coming back would change nothing.
const FINAL = new Set([1008, 4401, 4403]);

/** What a command or a subscription was refused with; `code` is the server's, or one of ours. */
export class GreenroomError extends Error {
  constructor(message, code, { retryAfter, id } = {}) {
    super(message);
    this.name = "GreenroomError";
    this.code = code;
    if (retryAfter !== undefined) this.retryAfter = retryAfter;
    if (id !== undefined) this.id = id;
  }
}

export class GreenroomClient {
  #url;
  #token;
  #WebSocket;
  #socket = null;
  #state = "idle";
  #isWanted = false;
  #isPlain = false; // the connection under way was made without the subprotocol
  #wasVersioned = false;
  #features = { ids: false, resume: false };
  #client;
  #listeners = { state: new Set(), error: new Set(), gap: new Set() };
  #topics = new Map(); // name -> {handlers, mark: {epoch, seq} | null, isHeard, isAsked}
  #commands = new Map(); // id -> {message, timeout, sentAt, isSent, ...}, in the order given
  #asked = new Map(); // id of a subscribe -> its topics
  #lastId = 0;
  #attempt = 0;
  #retryTimer = null;
  #watchTimer = null;
  #heardAt = 0;
  #openedAt = 0;
  #waiting = []; // of connect()
  #onOnline = () => this.#comeBackNow();

  constructor(url, { topics = [], token = null, client = crypto.randomUUID(), WebSocket } = {}) {
    this.#WebSocket = WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) {
      throw new TypeError("there is no WebSocket here: give one, as {WebSocket} of the package ws");
    }
    this.#url = String(url);
    this.#token = token;
    this.#client = client;
    for (const topic of topics) this.#topic(topic);
  }

  /** "idle", "connecting", "open", "waiting" for the next try, or "closed" for good. */
  get state() {
    return this.#state;
  }

  /** What the server of the present connection can do: `{ids, resume}`. */
  get features() {
    return { ...this.#features };
  }

  /** Listen to "state", "error" or "gap"; the function that comes back ends it. */
  on(name, handler) {
    const handlers = this.#listeners[name];
    if (!handlers) throw new TypeError(`there is no event ${name}: state, error and gap are`);
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  /** Open the connection and keep it; ends when it is open, or fails when it will never be. */
  connect() {
    if (this.#state === "open") return Promise.resolve();
    const opened = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    // Who does not wait for it is told by "error".
    opened.catch(() => {});
    if (!this.#isWanted) {
      this.#isWanted = true;
      this.#attempt = 0;
      globalThis.addEventListener?.("online", this.#onOnline);
      this.#open();
    }
    return opened;
  }

  /** End the connection for good; commands that have no answer yet are refused with "CLOSED". */
  close() {
    this.#end(new GreenroomError("the client was closed", "CLOSED"), 1000);
  }

  /** Hear a topic; `handler(action, event)`. The function that comes back ends it. */
  subscribe(topic, handler) {
    const held = this.#topic(topic);
    held.handlers.add(handler);
    if (!held.isHeard && !held.isAsked) this.#ask([topic]);
    return () => {
      held.handlers.delete(handler);
      if (held.handlers.size > 0 || this.#topics.get(topic) !== held) return;
      this.#topics.delete(topic);
      if (this.#state === "open") this.#send({ type: "unsubscribe", topics: [topic] });
    };
  }

  /**
   * Ask for a change; `action` is a name, or `{Name: {...fields}}`.
   *
   * The promise holds `{result, position}`. While there is no connection up to 100 commands wait.
   * `timeout` milliseconds after it was sent it fails with "TIMEOUT": it may still succeed.
   */
  command(action, { timeout = TIMEOUT_MS, topic = null } = {}) {
    if (this.#state === "closed") {
      return Promise.reject(new GreenroomError("the client is closed", "CLOSED"));
    }
    let unsent = 0;
    for (const one of this.#commands.values()) unsent += one.isSent ? 0 : 1;
    if (unsent >= QUEUE_MOST) {
      return Promise.reject(new GreenroomError("too many commands wait for a connection", "QUEUE_FULL"));
    }
    const message = { type: "command", action, topic };
    return new Promise((resolve, reject) => {
      const one = { message, timeout, sentAt: null, isSent: false, resolve, reject, timer: null };
      this.#commands.set(this.#nextId(), one);
      this.#flush();
    });
  }

  // ---- the connection ----------------------------------------------------------------------

  async #open() {
    clearTimeout(this.#retryTimer);
    this.#become("connecting");
    let address;
    try {
      address = await this.#address();
    } catch (error) {
      // Who gives the tokens may be away as well.
      if (this.#isWanted && this.#state === "connecting") this.#retry(this.#backoff());
      this.#tell("error", error);
      return;
    }
    if (!this.#isWanted || this.#state !== "connecting" || this.#socket) return;
    const Socket = this.#WebSocket;
    let socket;
    try {
      socket = this.#isPlain ? new Socket(address) : new Socket(address, [PROTOCOL]);
    } catch (error) {
      this.#end(error);
      return;
    }
    this.#socket = socket;
    this.#heardAt = Date.now();
    clearInterval(this.#watchTimer);
    this.#watchTimer = setInterval(() => this.#watch(), 1000);
    // A socket that was given up may still speak.
    const ours = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = ours(() => this.#opened(socket.protocol === PROTOCOL));
    socket.onmessage = ours(({ data }) => this.#heard(data));
    socket.onclose = ours(({ code, reason }) => this.#lost(code, reason));
    socket.onerror = () => {}; // the close tells it
  }

  async #address() {
    const address = new URL(this.#url, globalThis.location?.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.searchParams.set("client", this.#client);
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    if (token) address.searchParams.set("ticket", token);
    return address.href;
  }

  #opened(isVersioned) {
    this.#wasVersioned ||= isVersioned;
    this.#openedAt = this.#heardAt = Date.now();
    this.#features = { ids: isVersioned, resume: isVersioned };
    this.#become("open");
    this.#ask([...this.#topics.keys()]);
    this.#flush();
    for (const one of this.#waiting.splice(0)) one.resolve();
  }

  #lost(code, reason) {
    const wasOpen = this.#state === "open";
    const isSteady = wasOpen && Date.now() - this.#openedAt >= STEADY_MS;
    this.#drop();
    if (FINAL.has(code)) {
      this.#end(new GreenroomError(reason || "the server closed the connection", `CLOSE_${code}`));
      return;
    }
    // A connection whose server does not name the subprotocol that was offered is failed by the
    // browser, and looks like any other failure. So the other form is tried at once.
    this.#isPlain = !wasOpen && !this.#isPlain && !this.#wasVersioned;
    if (this.#isPlain) {
      this.#open();
      return;
    }
    if (isSteady) this.#attempt = 0;
    this.#retry(RESTARTS.has(code) ? Math.random() * RESTART_SPREAD_MS : this.#backoff());
  }

  /** Forget the socket; what was under way on it is sent again where ids make that safe. */
  #drop(code) {
    clearInterval(this.#watchTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(...(code ? [code] : []));
    this.#asked.clear();
    for (const held of this.#topics.values()) held.isHeard = held.isAsked = false;
    for (const one of this.#commands.values()) {
      clearTimeout(one.timer);
      one.isSent = false;
    }
  }

  #backoff() {
    const most = Math.min(DELAY_MOST_MS, DELAY_FIRST_MS * 2 ** Math.min(this.#attempt, 10));
    this.#attempt += 1;
    return Math.random() * most;
  }

  #retry(wait) {
    this.#become("waiting");
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#open(), wait);
  }

  #comeBackNow() {
    if (this.#state === "waiting") this.#open();
  }

  #watch() {
    if (!this.#socket) return;
    const silentMs = Date.now() - this.#heardAt;
    if (silentMs >= SILENCE_MS_MAX) {
      this.#drop(4000);
      this.#retry(this.#backoff());
    } else if (this.#state === "open" && silentMs >= ASK_MS) this.#send({ type: "ping" });
  }

  #end(error, code) {
    const wasClosed = this.#state === "closed";
    this.#isWanted = false;
    clearTimeout(this.#retryTimer);
    globalThis.removeEventListener?.("online", this.#onOnline);
    this.#drop(code);
    for (const id of [...this.#commands.keys()]) this.#settle(id, (one) => one.reject(error));
    for (const one of this.#waiting.splice(0)) one.reject(error);
    this.#become("closed");
    if (!wasClosed && code !== 1000) this.#tell("error", error);
  }

  // ---- what is said ------------------------------------------------------------------------

  #nextId() {
    this.#lastId += 1;
    return `c${this.#lastId}`;
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #ask(topics) {
    if (this.#state !== "open" || topics.length === 0) return;
    const message = { type: "subscribe", topics };
    const resume = {};
    for (const topic of topics) {
      const held = this.#topics.get(topic);
      held.isAsked = true;
      if (held.mark) resume[topic] = held.mark;
    }
    if (this.#features.ids) {
      message.id = this.#nextId();
      this.#asked.set(message.id, topics);
      if (Object.keys(resume).length) message.resume = resume;
    }
    this.#send(message);
  }

  #flush() {
    if (this.#state !== "open") return;
    for (const [id, one] of this.#commands) {
      if (one.isSent) continue;
      const now = Date.now();
      if (one.sentAt !== null && now - one.sentAt > REPEATABLE_MS) {
        this.#settle(id, () => one.reject(overdue(id)));
        continue;
      }
      one.isSent = true;
      one.sentAt ??= now;
      this.#send(this.#features.ids ? { ...one.message, id } : one.message);
      if (this.#features.ids) {
        one.timer = setTimeout(() => this.#settle(id, () => one.reject(overdue(id))), one.timeout);
      } else this.#settle(id, () => one.resolve({ result: null, position: null }));
    }
  }

  #settle(id, how) {
    const one = this.#commands.get(id);
    if (!one) return;
    this.#commands.delete(id);
    clearTimeout(one.timer);
    how(one);
  }

  // ---- what is heard -----------------------------------------------------------------------

  #heard(data) {
    this.#heardAt = Date.now();
    let message;
    try {
      message = JSON.parse(data);
      if (!isMessage(message)) throw new TypeError("that is no message of the protocol");
    } catch (error) {
      this.#tell("error", new GreenroomError(`the server sent what cannot be read: ${error.message}`, "BAD_DATA"));
      return;
    }
    if (message.type === "event") this.#happened(message);
    else if (message.type === "ack") {
      const { id, result, position } = message;
      this.#settle(id, (one) => one.resolve({ result, position }));
    } else if (message.type === "subscribed") this.#subscribed(message);
    else if (message.type === "error") this.#refused(message);
    else if (message.type === "ping") this.#send({ type: "pong" });
  }

  #happened(event) {
    const { topic, action, seq, epoch, prev } = event;
    const held = this.#topics.get(topic);
    if (!held) return;
    if (seq !== undefined) {
      const mark = held.mark;
      const isSame = mark?.epoch === epoch;
      if (isSame && seq <= mark.seq) return; // heard already
      if (isSame && prev !== undefined && prev !== mark.seq) {
        // Something is missing: it is asked for, and this event comes again behind it.
        if (!held.isAsked) this.#ask([topic]);
        return;
      }
      held.mark = { epoch, seq };
    }
    for (const handler of held.handlers) this.#guard(() => handler(action, event));
  }

  #subscribed({ id, topics, positions }) {
    this.#asked.delete(id);
    for (const topic of topics) {
      const held = this.#topics.get(topic);
      if (!held) continue;
      held.isAsked = false;
      held.isHeard = true;
      const place = positions?.[topic];
      const isResumed = held.mark !== null || held.wasHeard;
      if (!place) {
        if (isResumed) this.#tell("gap", { topic });
      } else if (!place.recovered) {
        held.mark = { epoch: place.epoch, seq: place.seq };
        if (isResumed) this.#tell("gap", { topic });
      } else if (held.mark === null) held.mark = { epoch: place.epoch, seq: place.seq };
      held.wasHeard = true;
    }
  }

  #refused({ message, code = "REFUSED", id, retry_after: retryAfter, missed }) {
    if (id !== undefined && this.#commands.has(id)) {
      const one = this.#commands.get(id);
      if (code === "SHUTTING_DOWN") {
        // Nothing was done: it goes to the next server.
        clearTimeout(one.timer);
        one.isSent = false;
      } else this.#settle(id, () => one.reject(new GreenroomError(message, code, { retryAfter, id })));
      return;
    }
    if (code === "LAGGED") {
      this.#ask([...this.#topics.keys()]);
      return;
    }
    // Of a subscription: the granted topics are told by `subscribed`, the others are not heard.
    this.#tell("error", new GreenroomError(message, code, { retryAfter, id }));
  }

  // ---- listeners ---------------------------------------------------------------------------

  #topic(name) {
    let held = this.#topics.get(name);
    if (!held) {
      held = { handlers: new Set(), mark: null, isHeard: false, isAsked: false, wasHeard: false };
      this.#topics.set(name, held);
    }
    return held;
  }

  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#tell("state", state);
  }

  #tell(name, detail) {
    for (const handler of this.#listeners[name]) this.#guard(() => handler(detail));
  }

  /** A listener that throws is told to the console, and stops nothing here. */
  #guard(call) {
    try {
      call();
    } catch (error) {
      console.error(error);
    }
  }
}

const overdue = (id) => (
  new GreenroomError("no answer in time; the command may still succeed", "TIMEOUT", { id })
);

const KINDS = new Set(["ack", "error", "event", "ping", "pong", "subscribed", "unsubscribed"]);
const isText = (value) => typeof value === "string";
const isAbsentOr = (check, value) => value === undefined || check(value);

function isMessage(message) {
  if (message === null || typeof message !== "object" || !KINDS.has(message.type)) return false;
  if (message.type === "event") {
    const { action, topic, seq, epoch, prev } = message;
    const isAction = isText(action) || (typeof action === "object" && action !== null);
    const isPlaced = seq === undefined || (Number.isInteger(seq) && isText(epoch));
    return isAction && isText(topic) && isPlaced && isAbsentOr(Number.isInteger, prev);
  }
  if (message.type === "ack") return isText(message.id);
  if (message.type === "error") return isText(message.message) && isAbsentOr(isText, message.id);
  if (message.type !== "subscribed") return true;
  const places = Object.values(message.positions ?? {});
  return Array.isArray(message.topics) && message.topics.every(isText) && places.every(
    (one) => isText(one?.epoch) && Number.isInteger(one.seq) && typeof one.recovered === "boolean",
  );
}
