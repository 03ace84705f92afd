// The page's own script: what the browser runtime's attributes cannot say.
//
// It turns refused commands into words, shows times in the reader's zone, and follows growing lists.
// The stream and its pill are in connection.js.
// Rule: it never builds markup; texts are set as textContent only.

// After this long without a result a composer may be used again.
const ANSWER_MS = 5000;
// A page left open for days keeps no more messages than this a list; the server has them all.
const MESSAGES_MAX = 100;

const REFUSALS = {
  0: ["No connection", "The server did not answer. Nothing was changed."],
  400: ["Not understood", "The server could not read this request. Reload the page."],
  401: ["Sign in first", "This needs an account that is signed in."],
  403: ["Not allowed", "You may not do this here."],
  404: ["Not there", "What this is about does not exist any more."],
  409: ["Not now", "This is not possible in the present state."],
  412: ["Not in a room", "This tab is not bound to a room. Reload the page; if that does not help, let your browser keep this site's cookie."],
  413: ["Too long", "That was more than the server takes."],
  428: ["No stream", "This tab has no open stream. It reconnects by itself; try again then."],
  429: ["Too fast", "The limit is reached. Wait a moment and try again."],
  503: ["Not available", "A part of the server is not available just now. Try again soon."],
};
const REFUSAL_UNKNOWN = ["Something failed", "The server met an error and has logged it."];

const all = (selector) => document.querySelectorAll(selector);
const tell = (target, name, detail) => target.dispatchEvent(new CustomEvent(name, { detail }));
const stream = document.getElementById("stream");
const isConnected = () => document.documentElement.dataset.connection === "connected";

// ---- commands ------------------------------------------------------------------------------

const refused = new WeakSet();
const overdue = new WeakMap();

function refuse(element, status) {
  refused.add(element);
  const [title, message] = REFUSALS[status] ?? REFUSAL_UNKNOWN;
  tell(element, "greenroom-refused", `${title}: your draft is kept.`);
  // With a stream the server says it better there; without one these fixed words stand in. What a
  // composer says beside itself is not said twice.
  if (element.classList?.contains("composer")) return;
  if (!isConnected() || status === 0) tell(window, "greenroom-banner", { title, message, status });
}

function onCommand(type, element, details) {
  if (type === "started") {
    refused.delete(element);
    clearTimeout(overdue.get(element));
    overdue.set(element, setTimeout(() => tell(element, "greenroom-overdue"), ANSWER_MS));
  } else if (type === "error") refuse(element, Number(details.status));
  else if (type === "retries-failed") refuse(element, 0);
  else if (type === "finished" && !refused.has(element)) {
    tell(window, "greenroom-banner", { title: "", message: "", status: 0 });
  }
}

// ---- what follows a patch ------------------------------------------------------------------

const clockFormat = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const dayFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "short" });
const followed = new Set();
let isTidyPlanned = false;

function tidy() {
  isTidyPlanned = false;
  for (const time of all("time[datetime]")) {
    const format = time.dataset.form === "day" ? dayFormat : clockFormat;
    const text = format.format(new Date(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
  for (const log of followed) {
    const list = log.querySelector("ol");
    while (list.childElementCount > MESSAGES_MAX) list.firstElementChild.remove();
    log.scrollTop = log.scrollHeight;
  }
  followed.clear();
  for (const tree of all("[role=tree]")) {
    if (!tree.querySelector("[role=treeitem][tabindex='0']")) {
      tree.querySelector("[role=treeitem]")?.setAttribute("tabindex", "0");
    }
  }
}

// Runs before the patch: only who stands at the newest end of a list is taken along.
function planTidy() {
  for (const log of all(".log")) {
    if (log.scrollHeight - log.scrollTop - log.clientHeight < 40) followed.add(log);
  }
  if (!isTidyPlanned) requestAnimationFrame(tidy);
  isTidyPlanned = true;
}

let uptimeBase = null;
let uptimeBegan = 0;

function spell(seconds) {
  const [minute, hour, day] = [60, 3600, 86400];
  if (seconds >= day) return `${Math.floor(seconds / day)} d ${Math.floor((seconds % day) / hour)} h`;
  if (seconds >= hour) return `${Math.floor(seconds / hour)} h ${Math.floor((seconds % hour) / minute)} min`;
  return seconds >= minute ? `${Math.floor(seconds / minute)} min ${seconds % minute} s` : `${seconds} s`;
}

function everySecond() {
  const uptime = document.querySelector("[data-uptime]");
  if (!uptime || !isConnected()) return;
  if (uptime.dataset.uptime !== uptimeBase) {
    uptimeBase = uptime.dataset.uptime;
    uptimeBegan = performance.now() - Number(uptimeBase) * 1000;
  }
  uptime.textContent = spell(Math.floor((performance.now() - uptimeBegan) / 1000));
}

// ---- the composer by keyboard ----------------------------------------------------------------

function onComposerKey(event) {
  const isSend = event.key === "Enter" && !event.shiftKey && !event.isComposing;
  if (!isSend || !event.target.matches(".composer textarea")) return;
  event.preventDefault();
  event.target.form.requestSubmit();
}

// ---- drafts --------------------------------------------------------------------------------

// Of this tab, and of who is here: the next person at this browser sees no draft. A page that shows
// another person than is here now empties its composers (`greenroom-left`) and keeps what was in
// them, for one who only has another role now, or whose sign-in has run out. Who signs out leaves
// no draft in any tab.
const leaving = new BroadcastChannel("greenroom-leaving");
const draftKey = (form) => `draft ${form.id} ${document.querySelector(".viewer bdi")?.textContent}`;

// Called by the composer's attributes: gives the draft that is kept, or keeps another. What the page
// itself brought back (a form that was refused) is newer than what is kept.
window.greenroomDraft = (form, draft) => {
  const brought = form.querySelector("textarea").defaultValue;
  if (draft === undefined && brought) return brought;
  try {
    if (draft) sessionStorage.setItem(draftKey(form), draft);
    else if (draft === "") sessionStorage.removeItem(draftKey(form));
    return sessionStorage.getItem(draftKey(form)) ?? "";
  } catch {
    return ""; // a browser that stores nothing, or has no room left
  }
};

function leave() {
  try {
    sessionStorage.clear();
  } catch {
    // nothing is stored here
  }
  tell(window, "greenroom-left");
}

function onDraft(event) {
  if (event.target.matches(".composer textarea")) greenroomDraft(event.target.form, event.target.value);
}

// ---- forms ----------------------------------------------------------------------------------

function onShowPassword(event) {
  const button = event.target.closest(".show-password");
  if (!button) return;
  const input = document.getElementById(button.getAttribute("aria-controls"));
  const isShown = input.type === "text";
  input.type = isShown ? "password" : "text";
  button.textContent = isShown ? "Show" : "Hide";
}

// ---- wiring --------------------------------------------------------------------------------

document.addEventListener("datastar-fetch", ({ detail }) => {
  if (detail.type.startsWith("datastar-patch-elements")) planTidy();
  if (detail.el !== stream) onCommand(detail.type, detail.el, detail.argsRaw);
});
document.addEventListener("keydown", onComposerKey);
document.addEventListener("input", onDraft);
leaving.addEventListener("message", leave);
document.querySelector("[action='/logout']")?.addEventListener("submit", () => {
  leaving.postMessage("");
  leave();
});
document.addEventListener("click", onShowPassword);
for (const log of all(".log")) followed.add(log);
tidy();
setInterval(everySecond, 1000);
