// The page's one stream: when it is opened, when it is given up, and what the pill says of it.
//
// Datastar makes each request; this file decides when. Its rules:
// 1. The pill is true. "connected" means that something came a moment ago: the server beats when
//    it has nothing to say, and a line without a sound for 2.5 beats is taken for dead.
// 2. A page that nobody looks at holds no connection, and none is opened for it.
// 3. A browser has six connections a host under HTTP/1.1, also for commands and other pages: of
//    one browser at most STREAMS_MOST pages hold a stream. One more, and the oldest gives way.
//
// What it knows stands in `data-connection` of the root element, for the style sheet and app.js.

const DELAY_FIRST_MS = 1000;
const DELAY_MOST_MS = 30000;
const DELAY_SPREAD = 0.2;
// A stream that lived this long was a good one: the next loss starts again at one second.
const STEADY_MS = 2000;
const BEATS_SILENT_MOST = 2.5;
// Told by the server with each beat; until the first one this is assumed.
let beatMs = 15000;
// A page that is left for a moment keeps its stream: looking elsewhere costs nothing.
const HIDDEN_KEPT_MS = 5000;
// Of six, two are left: for a page that loads, and for a command.
const STREAMS_MOST = 4;
// A request that waits longer for its first byte has no free connection, or a bad line.
const SLOW_MS = 4000;

const LOST_SHORT_MS = 3000;

const LOCKS = "greenroom-stream/";
const TOO_MANY = "too many tabs of this site are open";
const OUTDATED = "who you are here has changed: load this page again";
const NO_ANSWER = "no answer yet: a bad line, or too many tabs of this site";

const root = document.documentElement;
const pill = document.getElementById("connection-pill");
const stream = document.getElementById("stream");
const stale = document.getElementById("stale");
const channel = new BroadcastChannel("greenroom-streams");
// Many streams share one connection there.
const isMultiplexed = /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol);

const clockFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const tell = (target, name, detail) => target.dispatchEvent(new CustomEvent(name, { detail }));

let isReady = false; // Datastar listens
let request = null; // the abort controller of the request under way
let endsToCome = 0; // of requests that were given up here: their end is no loss
let heardAt = 0;
let connectedAt = null;
let lostAt = 0;
let shownAt = 0; // the clock when something came last
let attempt = 0;
let nextTry = 0;
let nextTryAt = 0;
let trouble = ""; // why the last try failed, in words
let hasGivenWay = false;
let isOutdated = false; // rendered for who is not here any more
let hiddenTimer = 0;
let lock = null; // {name, release}

// ---- what is shown -------------------------------------------------------------------------

function show(state, detail = "") {
  if (root.dataset.connection !== state) root.dataset.connection = state;
  const word = pill.querySelector(".pill-word");
  if (pill.dataset.state !== state) pill.dataset.state = state;
  if (word.textContent !== state) word.textContent = state;
  pill.querySelector(".pill-detail").textContent = detail;
  pill.querySelector("button").textContent = isOutdated ? "load again" : "try now";
  pill.querySelector("button").hidden = state === "connected" || state === "connecting";
  // A short loss moves nothing on the page.
  const isShort = performance.now() - lostAt < LOST_SHORT_MS && !hasGivenWay;
  stale.hidden = state === "connected" || state === "connecting" || isShort;
  const text = shownAt ? clockFormat.format(shownAt) : "its loading";
  const time = stale.querySelector("span");
  if (time.textContent !== text) time.textContent = text;
}

function showState() {
  if (connectedAt !== null) show("connected");
  else if (isOutdated) show("disconnected", OUTDATED);
  else if (hasGivenWay) show("disconnected", TOO_MANY);
  else if (attempt === 0) show("connecting", trouble);
  else {
    const seconds = Math.max(0, Math.ceil((nextTryAt - performance.now()) / 1000));
    const parts = [`attempt ${attempt}`, trouble, request ? "" : `next in ${seconds} s`];
    show("reconnecting", parts.filter(Boolean).join(", "));
  }
}

// ---- one stream for each of the newest pages of a browser ------------------------------------

async function holdPlace() {
  if (isMultiplexed || !navigator.locks) return;
  dropPlace();
  const mine = { name: LOCKS + String(Date.now()).padStart(15, "0") + Math.random(), release() {} };
  lock = mine;
  // Held until released, or until this page is gone, however it goes.
  navigator.locks.request(mine.name, () => new Promise((done) => {
    mine.release = done;
    if (lock !== mine) done();
  }));
  const { held, pending } = await navigator.locks.query();
  const others = [...held, ...pending].map((one) => one.name)
    .filter((name) => name.startsWith(LOCKS) && name !== mine.name).sort();
  for (const name of others.slice(0, Math.max(0, others.length + 1 - STREAMS_MOST))) {
    channel.postMessage({ giveWay: name });
  }
}

function dropPlace() {
  lock?.release();
  lock = null;
}

// ---- what the page has already ----------------------------------------------------------------

// Everything that is shown has a mark, and the server sends only what differs. The two lists of the
// chat differ where the line was cut within an event: then nothing is said of them, and both come.
function holds() {
  const marks = (selector) => [...document.querySelectorAll(selector)].map((one) => one.dataset.mark);
  const said = [...document.querySelectorAll("[data-holds]")]
    .map((one) => `${one.dataset.holds}=${one.dataset.mark}`);
  const [you, demo] = ["you", "demo"].map((pane) => marks(`#chat-${pane}-list > li[data-mark]`).join());
  if (document.getElementById("chat-you-list") && you === demo) said.push(`chat=${you}`);
  return said.join(";");
}

// ---- opening and losing ----------------------------------------------------------------------

function end() {
  clearTimeout(nextTry);
  if (request) {
    endsToCome += 1;
    request.abort();
    request = null;
  }
  if (connectedAt !== null) {
    lostAt = performance.now();
    tell(window, "greenroom-lost");
  }
  connectedAt = null;
  dropPlace();
}

function open() {
  if (!isReady || document.hidden || isOutdated) return;
  end();
  hasGivenWay = false;
  request = new AbortController();
  heardAt = performance.now();
  holdPlace();
  showState();
  tell(window, "greenroom-open", { request, holds: holds() });
}

function lose() {
  if (isOutdated) {
    end();
    showState();
    return;
  }
  const lived = connectedAt === null ? 0 : performance.now() - connectedAt;
  attempt = lived >= STEADY_MS ? 1 : attempt + 1;
  end();
  const delay = Math.min(DELAY_MOST_MS, DELAY_FIRST_MS * 2 ** Math.min(attempt - 1, 10));
  const wait = delay * (1 - DELAY_SPREAD + 2 * DELAY_SPREAD * Math.random());
  nextTryAt = performance.now() + wait;
  nextTry = setTimeout(open, wait);
  showState();
}

function heard() {
  heardAt = performance.now();
  shownAt = Date.now();
  trouble = "";
  if (connectedAt !== null) return;
  connectedAt = heardAt;
  showState();
}

function refused(status) {
  if (status === 409) {
    isOutdated = true;
    tell(window, "greenroom-left");
  } else if (status === 429) trouble = TOO_MANY;
  else if (status === 503) trouble = "the server has no room";
  else trouble = `the server said ${status}`;
}

function onStream({ type, argsRaw }) {
  if (type === "error") refused(Number(argsRaw.status));
  else if (type === "datastar-beat") {
    beatMs = 1000 * Number(argsRaw.every) || beatMs;
    heard();
  } else if (type.startsWith("datastar-patch")) heard();
  else if (type === "finished") {
    if (endsToCome > 0) endsToCome -= 1;
    else if (request) {
      request = null;
      lose();
    }
  }
}

// ---- looking after it ------------------------------------------------------------------------

function look() {
  if (request) {
    const silentMs = performance.now() - heardAt;
    if (connectedAt === null && silentMs > SLOW_MS && !trouble) trouble = NO_ANSWER;
    if (silentMs > BEATS_SILENT_MOST * beatMs) {
      trouble = connectedAt === null ? trouble : "the line fell silent";
      lose();
    }
  }
  if (connectedAt === null) showState();
}

function onVisibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(end, HIDDEN_KEPT_MS);
  else if (!request) open();
  else look();
}

window.addEventListener("unhandledrejection", (event) => {
  // The runtime rejects a failed request after it has told us of it; it was dealt with then.
  if (String(event.reason).includes("FetchFailed")) event.preventDefault();
});

if (stream) {
  document.addEventListener("datastar-ready", () => {
    isReady = true;
    open();
  });
  document.addEventListener("datastar-fetch", ({ detail }) => {
    if (detail.el === stream) onStream(detail);
  });
  document.addEventListener("visibilitychange", onVisibility);
  pill.querySelector("button").addEventListener("click", () => (isOutdated ? location.reload() : open()));
  channel.addEventListener("message", ({ data }) => {
    if (!lock || data.giveWay !== lock.name) return;
    end();
    hasGivenWay = true;
    showState();
  });
  // Who comes back to a page that gave way wants to see it live.
  window.addEventListener("focus", () => hasGivenWay && open());
  window.addEventListener("pageshow", ({ persisted }) => persisted && open());
  window.addEventListener("online", open);
  window.addEventListener("offline", () => {
    trouble = "the network is gone";
    if (request) lose();
  });
  setInterval(look, 1000);
}
