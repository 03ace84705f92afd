// The rooms: each message at the place of its number, who speaks, what was before, what is new, and
// how long a draft may be.
//
// A message that was approved comes behind newer ones and belongs before them (SITE-69).
// Rule: it never builds markup; it moves what the server has sent.

// As many as the server sends at once: what is older than all of them stands in the history only.
const WINDOW = 50;

const seqOf = (item) => Number(item.dataset.seq);

function place(item) {
  const list = item.parentElement;
  if (!list || !item.dataset.seq) return;
  let before = item;
  while (before.previousElementSibling && seqOf(before.previousElementSibling) > seqOf(item)) {
    before = before.previousElementSibling;
  }
  if (before === item) return;
  if (before === list.firstElementChild && list.childElementCount > WINDOW) item.remove();
  else list.insertBefore(item, before);
}

// ---- what came -----------------------------------------------------------------------------

// Who says more within this is named, and the time told, once (`web/views/chat.py` keeps the same).
const CONTINUES_MS = 60_000;
// So near to its end a log is read to its end.
const NEAR_PX = 40;

const logs = [...document.querySelectorAll("#chat-demo .log")];
const listOf = (log) => log.querySelector("ol[id$='-list']");
const isAtEnd = (log) => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
const timeOf = (item) => Date.parse(item.querySelector("time")?.dateTime ?? "");
const authorOf = (item) => item.querySelector(".author")?.textContent;
const KINDS = ["from-you", "from-demo", "from-other"];
const kindOf = (item) => KINDS.find((kind) => item.classList.contains(kind));

function follows(item, before) {
  if (!before || !kindOf(item) || kindOf(item) !== kindOf(before)) return false;
  if (item.matches(".is-pending") || before.matches(".is-pending")) return false;
  return authorOf(item) === authorOf(before) && timeOf(item) - timeOf(before) < CONTINUES_MS;
}

function group(item) {
  if (item?.matches?.(".message")) item.classList.toggle("is-continued", follows(item, item.previousElementSibling));
}

// How many came below what is seen, a log; and while nobody looked, all together.
const below = new Map(logs.map((log) => [log, 0]));
const wasAtEnd = new Map(logs.map((log) => [log, true]));
const title = document.title;
let unseen = 0;

function showBelow(log) {
  const count = below.get(log);
  const line = log.parentElement.querySelector(".below");
  line.hidden = count === 0;
  line.firstElementChild.textContent = `${count} new below`;
}

function markNew(list, item) {
  if (!list.querySelector(".is-first-new")) item.classList.add("is-first-new");
}

function onNew(log, item) {
  if (document.hidden) {
    markNew(listOf(log), item);
    if (log === logs[0]) document.title = `(${(unseen += 1)}) ${title}`;
  }
  if (!wasAtEnd.get(log) && log.offsetParent) {
    below.set(log, below.get(log) + 1);
    showBelow(log);
  }
}

function onScroll(log) {
  if (!log.offsetParent) return;
  wasAtEnd.set(log, isAtEnd(log));
  if (isAtEnd(log) && below.get(log)) {
    below.set(log, 0);
    showBelow(log);
  }
  if (log.scrollTop < NEAR_PX && log.scrollHeight > log.clientHeight) askOlder(log);
}

// ---- what was before -------------------------------------------------------------------------

let hasNoOlder = !document.querySelector("#chat-demo .older:not([hidden])");
let isAsking = false;
let askedAt = 0;

function showOlder() {
  for (const log of logs) {
    const first = listOf(log).firstElementChild;
    const line = log.querySelector(".older");
    line.hidden = hasNoOlder || !first?.dataset.seq;
    if (first?.dataset.seq) line.firstElementChild.value = first.dataset.seq;
  }
}

function askOlder(log) {
  const line = log.querySelector(".older");
  // An answer that failed is asked for again, but not at every turn of a wheel.
  if (!line || line.hidden || isAsking || performance.now() - askedAt < 1000) return;
  line.firstElementChild.click();
}
// In the capture phase: one answer is for both logs, so it is asked for once, by whichever.
document.addEventListener("click", (event) => {
  if (!event.target.closest?.(".older")) return;
  if (isAsking) event.stopImmediatePropagation();
  isAsking = true;
  askedAt = performance.now();
}, true);

// The page that came stands in a list of its own; each log takes it over and stays where it was read.
function takeOlder(log, came) {
  const list = listOf(log);
  const [height, top] = [log.scrollHeight, log.scrollTop];
  const known = list.firstElementChild;
  for (const item of [...came.children]) {
    // Not among what the page tells that it holds: of that the server knows its newest only.
    delete item.dataset.mark;
    if (list.querySelector(`#${item.id}`)) item.remove();
    else list.insertBefore(item, known);
  }
  group(known);
  log.scrollTop = top + log.scrollHeight - height;
  hasNoOlder = came.dataset.more !== "true";
  came.removeAttribute("data-more");
  showOlder();
}

// Whether they are there still is not told to a page that was away: they are asked for again.
function dropOlder() {
  for (const log of logs) {
    for (const item of listOf(log).querySelectorAll("li[data-seq]:not([data-mark])")) {
      item.remove();
      hasNoOlder = false;
    }
    group(listOf(log).firstElementChild);
  }
  showOlder();
}

const seen = new WeakSet();
const observer = new MutationObserver((changes) => {
  for (const { target, addedNodes, removedNodes } of changes) {
    const log = target.closest?.(".log");
    if (!log) continue;
    if (target.dataset.more !== undefined && target.id.endsWith("-older")) takeOlder(log, target);
    if (target !== listOf(log)) continue;
    for (const node of addedNodes) {
      if (node.nodeName !== "LI" || !node.isConnected || !node.dataset.mark) continue;
      place(node);
      group(node);
      group(node.nextElementSibling);
      // One that was put to its place comes here again.
      if (!seen.has(node)) onNew(log, node);
      seen.add(node);
    }
    if (removedNodes.length) {
      // The oldest went (a page keeps so many): they can be asked for again.
      group(listOf(log).firstElementChild);
      if (listOf(log).childElementCount >= WINDOW) hasNoOlder = false;
      showOlder();
    }
  }
});
for (const log of logs) {
  // The list itself may be replaced.
  observer.observe(log, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-more"] });
  log.addEventListener("scroll", () => onScroll(log), { passive: true });
  log.parentElement.querySelector(".below button").addEventListener("click", () => {
    log.scrollTo({ top: log.scrollHeight });
    log.focus({ preventScroll: true });
  });
}
document.addEventListener("datastar-fetch", ({ detail }) => {
  if (detail.type === "finished" && detail.el?.closest?.(".older")) isAsking = false;
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    for (const one of document.querySelectorAll("#chat-demo .is-first-new")) one.classList.remove("is-first-new");
    return;
  }
  unseen = 0;
  document.title = title;
});
new MutationObserver(() => {
  if (document.documentElement.dataset.connection === "connected") dropOlder();
}).observe(document.documentElement, { attributes: true, attributeFilter: ["data-connection"] });
showOlder();

// ---- rooms ---------------------------------------------------------------------------------------

const NOT_JOINED = {
  401: "Sign in to join this room.",
  428: "Not connected: join it when the page is live again.",
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.(".room-switch button");
  if (!button || button.getAttribute("aria-pressed") === "true") return;
  const note = document.getElementById("chat-room-note");
  const tab = document.querySelector("#chat-demo [name=sseTabId]").value;
  const before = hasNoOlder;
  note.textContent = "";
  // The other room comes as a whole, read from its end.
  hasNoOlder = true;
  for (const log of logs) log.scrollTop = log.scrollHeight;
  const { status } = await fetch("/demo/chat/rooms/join", {
    method: "POST",
    headers: { "content-type": "application/json", "datastar-request": "true" },
    body: JSON.stringify({ roomName: button.value, sseTabId: tab }),
  }).catch(() => ({ status: 0 }));
  if (status === 204) return;
  hasNoOlder = before;
  note.textContent = NOT_JOINED[status] ?? "The room does not answer just now. Try again soon.";
});

// ---- the dock: as whom one speaks --------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".dock-switch button");
  if (!button) return;
  button.closest("#chat-demo").dataset.speaker = button.dataset.speaker;
  for (const one of button.parentElement.children) one.setAttribute("aria-pressed", String(one === button));
  for (const log of logs) log.scrollTop = log.scrollHeight;
});

// ---- how long a draft is -------------------------------------------------------------------

// As the server counts (SITE-61, SITE-67): characters, not the halves some of them are made of.
const COUNTED_FROM = 250;
const SHOWN_AT_ONCE = 300;
const LENGTH_MOST = 1000;

const lengthOf = (draft) => [...draft.value.trim()].length;

function count(draft) {
  const line = draft.form.querySelector(".count");
  if (!line) return;
  const length = lengthOf(draft);
  line.dataset.state = length > LENGTH_MOST ? "over" : length > SHOWN_AT_ONCE ? "waits" : "";
  const told = {
    over: `at most ${LENGTH_MOST} characters; this has ${length}`,
    waits: `${length} of ${LENGTH_MOST} characters: will wait for review`,
    "": `${length} characters; from ${SHOWN_AT_ONCE + 1} on it waits for review`,
  };
  line.textContent = length < COUNTED_FROM ? "" : told[line.dataset.state];
}

document.addEventListener("input", (event) => {
  if (event.target.matches(".composer textarea")) count(event.target);
});
// In the capture phase: before the composer sends it. The line beside it says why nothing is sent.
document.addEventListener("submit", (event) => {
  const draft = event.target.querySelector("textarea");
  if (!event.target.matches(".composer") || !draft || lengthOf(draft) <= LENGTH_MOST) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  count(draft);
}, true);
// A draft that was sent is cleared by the stream, which tells no event of the field.
new MutationObserver(() => {
  for (const draft of document.querySelectorAll(".composer textarea")) count(draft);
}).observe(document.getElementById("chat-demo") ?? document.body, {
  attributes: true, attributeFilter: ["readonly"], subtree: true,
});

// ---- how long to wait ----------------------------------------------------------------------

// Seen, not spoken: the note beside it has told the seconds once.
const waits = new WeakMap();

function countDown(line) {
  clearInterval(waits.get(line));
  const seconds = Number(line.dataset.seconds ?? 0);
  line.textContent = "";
  if (!seconds) return;
  const over = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((over - performance.now()) / 1000);
    line.textContent = left > 0 ? `That was too often: send it again in ${left} s. Your text is kept.` : "";
    if (left > 0) return;
    clearInterval(waits.get(line));
    line.closest("form").dispatchEvent(new CustomEvent("greenroom-again", { detail: "You may send it now." }));
  };
  waits.set(line, setInterval(tick, 250));
  tick();
}

const counting = new MutationObserver((changes) => {
  for (const line of new Set(changes.map(({ target }) => target))) countDown(line);
});
for (const line of document.querySelectorAll(".composer .again")) {
  counting.observe(line, { attributes: true, attributeFilter: ["data-seconds"] });
}
