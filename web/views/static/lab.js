// The lab: which panel is seen, which actor is chosen, what its buttons do, and the lines of a minute.
//
// What is true comes from the server as elements; this file reads their `data-` attributes and draws.
// Rules:
// 1. It never builds markup from text: texts are set as textContent, drawings are points.
// 2. The page tells the server what it shows (`/api/lab/look`): a panel that is closed is sent nothing.
// 3. What a first look does not need is a file of its own (`crash.js`, and those of each panel).

const lab = document.querySelector(".lab");
const root = document.documentElement;
const stage = document.getElementById("stage");
const stories = document.getElementById("stories");
const inspector = document.querySelector(".inspector");
const tape = document.getElementById("tape");
const byId = (id) => document.getElementById(id);
const chipAt = (place) => byId(`chip-${place}`);

const PANELS = [...new Set([...document.querySelectorAll(".lab [data-panel]:is(a)")].map((one) => one.dataset.panel))];
const PANEL_OF_HASH = { "#chat-demo": "chat", "#operations-surface": "operations" };
// A minute, twice a second.
const SAMPLES = 120;
const SAMPLE_MS = 500;
// In hundredths of the tape: as wide as a mark with its name.
const CLOSE = 6;
// The edges of the feed are as wide as what goes over them: from so many messages a second on.
const TRAFFIC = [1, 20, 100];
// What comes so soon after the line is up has happened before.
const PAST_MS = 800;
const HINT = "greenroom-stage-hint";

let place = "";
let connectedAt = Infinity;
let isAwaited = false;
let isPaused = false;

// ---- panels ----------------------------------------------------------------------------------

function panelOf(hash) {
  // A panel is opened by its name, and by the id of anything in it.
  const inside = hash.length > 1 ? byId(hash.slice(1))?.closest("[data-tab]") : null;
  if (hash.startsWith("#flow-of-")) return "operations";
  const name = PANEL_OF_HASH[hash] ?? inside?.dataset.tab ?? hash.slice(1);
  return PANELS.includes(name) ? name : "tree";
}

function placeOf(hash) {
  const name = /^#actor=([a-z0-9/-]{1,40})$/.exec(hash)?.[1].replaceAll("/", "-") ?? "";
  return name && chipAt(name) ? name : "";
}

const filesOf = (name) => document.querySelector(`meta[name="files-${name}"]`)?.content.trim().split(" ") ?? [];
const brought = new Map(); // address of a file -> {isThere, end}

function bring(address) {
  if (address.endsWith(".js")) return import(address);
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = address;
  return new Promise((done, failed) => {
    link.addEventListener("load", done);
    link.addEventListener("error", () => {
      link.remove();
      failed(new Error(address));
    });
    document.head.append(link);
  });
}

// What a panel alone needs comes when it is opened first; `part` is not seen before it has its styles.
async function dress(name, part, isStill) {
  const files = filesOf(name);
  for (const one of files) if (!brought.has(one)) brought.set(one, { isThere: false, end: bring(one) });
  part.toggleAttribute("data-loading", files.some((one) => !brought.get(one).isThere));
  const ends = await Promise.allSettled(files.map((one) => brought.get(one).end));
  const missing = files.filter((_, at) => ends[at].status === "rejected");
  for (const one of files) {
    if (missing.includes(one)) brought.delete(one);
    else brought.get(one).isThere = true;
  }
  if (isStill()) part.removeAttribute("data-loading");
  if (!missing.length) return;
  const message = "Load the page again when it is live.";
  window.dispatchEvent(new CustomEvent("greenroom-banner", { detail: { title: "A part of this panel did not come", message, status: 0 } }));
}

function showPanel(name) {
  lab.dataset.panel = name;
  dress(name, lab, () => lab.dataset.panel === name);
  for (const tab of document.querySelectorAll(".lab-tabs [role=tab]")) {
    const isShown = tab.dataset.panel === (name === "site" ? "tree" : name);
    tab.setAttribute("aria-selected", String(isShown));
    tab.tabIndex = isShown ? 0 : -1;
    // Of a strip that is wider than the screen.
    if (isShown) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 24;
  }
  for (const scene of document.querySelectorAll(".scenes a")) {
    if (scene.dataset.panel === name) scene.setAttribute("aria-current", "true");
    else scene.removeAttribute("aria-current");
  }
  window.dispatchEvent(new CustomEvent("greenroom-panel", { detail: name }));
  window.dispatchEvent(new CustomEvent("greenroom-tidy"));
  tellLook();
}

// ---- from a message to its flow ------------------------------------------------------------------

const flows = () => import(filesOf("flows")[0]);

async function openFlow(hash) {
  const id = /^#flow-of-([0-9a-f-]{36})$/.exec(hash)?.[1];
  if (!id) return;
  if (lab.dataset.panel !== "operations") showPanel("operations");
  if (!isConnected()) return; // it is opened when the line is up
  history.replaceState(null, "", "#operations");
  (await flows()).open(id);
}

// Heard here: the answer to a first post may come before a file that its sending asked for.
document.addEventListener("datastar-signal-patch", async ({ detail }) => {
  const id = detail?._postedId;
  if (id) (await flows()).keep(id);
});

function onHash() {
  if (location.hash.startsWith("#flow-of-")) return openFlow(location.hash);
  const wanted = placeOf(location.hash);
  if (wanted) choose(wanted, { isFocused: false });
  const panel = panelOf(location.hash);
  if (panel !== lab.dataset.panel) showPanel(panel);
  if (panel === "chat") (byId("chat-you-draft") ?? byId("chat-demo-draft")).focus({ preventScroll: true });
}

// ---- what the server is told -------------------------------------------------------------------

const tab = () => document.querySelector("#chat-demo [name=sseTabId]").value;
const isConnected = () => root.dataset.connection === "connected";

async function post(path, fields) {
  try {
    return await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "datastar-request": "true" },
      body: JSON.stringify({ sseTabId: tab(), ...fields }),
    });
  } catch {
    return { status: 0, headers: new Headers() };
  }
}

async function tellLook() {
  if (!isConnected()) return;
  const [panel, looked] = [lab.dataset.panel, place];
  const { status } = await post("/api/lab/look", { panel, place: panel === "tree" ? place : "" });
  // The stream may be a moment younger than the page thinks.
  const isSame = panel === lab.dataset.panel && looked === place;
  if (status === 428 && isSame) setTimeout(tellLook, SAMPLE_MS);
}

// ---- who is chosen -----------------------------------------------------------------------------

function choose(name, { isFocused = true } = {}) {
  if (place) chipAt(place)?.setAttribute("aria-selected", "false");
  place = name;
  const chip = chipAt(name);
  chip?.setAttribute("aria-selected", "true");
  if (chip && isFocused) focusChip(chip);
  for (const one of inspector.querySelectorAll(".inspector-actions, .inspector-facets")) one.hidden = !name;
  byId("act-note").textContent = refused = "";
  if (!name) {
    emptyInspector();
    show("");
  } else {
    history.replaceState(null, "", `#actor=${name.replace("-", "/")}`);
    showNewestOf(name);
    dressInspector();
    player();
  }
  showButtons();
  tellLook();
}

const dressInspector = () => dress("inspector", inspector, () => true);

function emptyInspector() {
  const body = byId("inspector-body");
  body.replaceChildren();
  body.dataset.place = "";
}

function focusChip(chip) {
  for (const other of stage.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  chip.tabIndex = 0;
  chip.focus({ preventScroll: true });
}

const numberOf = (story) => Number(story.dataset.number);
const told = () => [...stories.children].filter(numberOf).sort((one, other) => numberOf(one) - numberOf(other));

function showNewestOf(name) {
  const own = told().filter((one) => one.dataset.place === name || one.dataset.affected.split(" ").includes(name));
  show(own.at(-1)?.dataset.number ?? "");
  showFacet(own.length ? "story" : "state");
}

function show(number) {
  stories.dataset.chosen = number;
  for (const one of stories.children) one.toggleAttribute("data-shown", one.dataset.number === number);
}

function showFacet(name) {
  inspector.dataset.facet = name;
  for (const one of inspector.querySelectorAll("[role=tab][data-facet]")) {
    one.setAttribute("aria-selected", String(one.dataset.facet === name));
  }
}

// ---- what may be done ----------------------------------------------------------------------------

const state = () => byId("stage-state").dataset;
let waitUntil = 0;
let healAt = 0;
let refused = ""; // the action that could not be done

function whyNot(action) {
  if (!isConnected()) return "Not connected: nothing can be done now.";
  const { access, left } = state();
  if (access !== "open") return byId("stage-state").textContent;
  if (Number(left) === 0) return "All actions of this minute are used up.";
  const chip = chipAt(place);
  if (!chip) return "Choose an actor first.";
  const status = chip.dataset.status.replace("_", " ");
  if (status !== "running") return `It is ${status}.`;
  if (chip.classList.contains("is-supervisor") && action !== "kill") {
    return "A supervisor has no letters of its own: kill it, or crash a child.";
  }
  return "";
}

function showButtons() {
  for (const button of inspector.querySelectorAll("[data-act]")) {
    const reason = place ? whyNot(button.dataset.act) : "";
    button.setAttribute("aria-disabled", String(Boolean(reason)));
    button.title = reason;
  }
  // What was answered to a click stands until it is not true any more.
  const note = byId("act-note");
  if (refused && note.textContent !== whyNot(refused)) note.textContent = whyNot(refused);
  const reset = byId("lab-reset");
  const isOff = !isConnected() || state().access !== "open" || Number(state().left) === 0;
  reset.setAttribute("aria-disabled", String(isOff));
}

function showQuota() {
  const { access, left, most } = state();
  const quota = byId("lab-quota");
  const seconds = Math.max(0, Math.ceil((waitUntil - performance.now()) / 1000));
  quota.classList.toggle("is-spent", Number(left) === 0);
  const heals = Math.ceil((healAt - performance.now()) / 1000);
  const healing = heals > 0 ? `heals itself in ${heals} s · ` : "";
  const isOpen = access === "open" || access === "shared";
  const text = !isOpen ? "" : healing + (Number(left) === 0 ? `no actions left, next in ${seconds} s` : `actions left ${left}/${most}`);
  if (quota.textContent !== text) quota.textContent = text;
}

const REFUSED = {
  0: "No answer: nothing is known to have happened.",
  400: "The server did not understand this.",
  404: "It is not there any more.",
  409: "Not possible in its present state.",
  428: "This page has no stream yet.",
  429: "That was too often.",
  503: "The lab is closed for actions just now.",
};

async function act(action) {
  const note = byId("act-note");
  const reason = whyNot(action);
  refused = reason && action;
  note.textContent = reason;
  if (reason) return;
  // The next story is of this action, however lately the line was opened, or is opened anew.
  isAwaited = action !== "flood";
  mark(`${action} ${chipAt(place).querySelector(".chip-name").textContent}`);
  byId("stage-hint").hidden = true;
  try {
    localStorage.setItem(HINT, "seen");
  } catch {
    // a browser that stores nothing shows it again
  }
  const fields = { commandId: crypto.randomUUID(), count: Number(byId("flood-count").value) };
  const { status, headers } = await post(`/api/lab/actors/${place}/${action}`, fields);
  if (status === 202) return;
  const after = headers.get("retry-after");
  note.textContent = (REFUSED[status] ?? "That failed.") + (after ? ` Again in ${after} s.` : "");
}

async function reset() {
  if (byId("lab-reset").getAttribute("aria-disabled") === "true") return;
  mark("reset");
  await post("/api/lab/sandbox/reset", { commandId: crypto.randomUUID() });
}

// ---- the lines -------------------------------------------------------------------------------------

let samples = [];
let beat = -1;

function parseSample(text) {
  const [came, waiting = ""] = text.split(":");
  const queued = new Map(waiting.split(",").filter(Boolean).map((one) => {
    const at = one.lastIndexOf(" ");
    return [one.slice(0, at), Number(one.slice(at + 1))];
  }));
  return { came: Number(came), queued };
}

function onPulse() {
  const { number, lost, doubled } = byId("pulse").dataset;
  if (Number(number) === beat) return;
  const sample = byId("pulse").querySelector(".sample").textContent;
  const past = byId("pulse").querySelector(".past");
  if (past) samples = past.textContent.split("|").filter(Boolean).map(parseSample);
  beat = Number(number);
  samples.push(parseSample(sample));
  samples = samples.slice(-SAMPLES);
  const rate = samples.slice(-2).reduce((sum, one) => sum + one.came, 0);
  showFigures([[rate, "msg/s"], [Number(lost), "lost"], [Number(doubled), "doubled"]]);
  byId("panel-tree").classList.toggle("is-running", rate > 0);
  byId("panel-tree").dataset.traffic = TRAFFIC.filter((most) => rate >= most).length;
  if (isPaused) return;
  showQueues(samples.at(-1).queued);
  draw();
}

function showQueues(queued) {
  for (const chip of stage.querySelectorAll(".chip:not(.is-supervisor)")) {
    const count = queued.get(chip.dataset.place) ?? 0;
    let queue = chip.querySelector(".queue");
    if (!count) {
      queue?.remove();
      continue;
    }
    if (!queue) {
      const number = document.createElement("b");
      const word = document.createElement("span");
      word.className = "visually-hidden";
      word.textContent = " wait";
      queue = document.createElement("span");
      queue.className = "queue";
      queue.append(number, word);
      chip.querySelector(".pips, .spark").before(queue);
    }
    queue.firstElementChild.textContent = count.toLocaleString("en");
  }
}

function showFigures(rows) {
  const figures = byId("stage-figures");
  if (!figures.children.length) {
    for (const [, word] of rows) {
      const one = document.createElement("span");
      one.append(document.createElement("b"), ` ${word} `);
      figures.append(one);
    }
  }
  rows.forEach(([count, word], at) => {
    const one = figures.children[at];
    one.firstChild.textContent = count;
    one.classList.toggle("is-lost", word !== "msg/s" && count > 0);
  });
}

const points = (values, height, most) => {
  const from = SAMPLES - values.length;
  return values.map((value, at) => `${from + at},${(height - (value / most) * (height - 2)).toFixed(1)}`).join(" ");
};

function draw() {
  const places = new Set(samples.flatMap((one) => [...one.queued.keys()]));
  for (const spark of stage.querySelectorAll(".spark")) {
    const name = spark.parentElement.dataset.place;
    const line = spark.firstElementChild;
    if (!places.has(name)) {
      if (line.getAttribute("points")) line.setAttribute("points", "");
      continue;
    }
    const values = samples.map((one) => one.queued.get(name) ?? 0);
    line.setAttribute("points", points(values, 18, Math.max(8, ...values)));
  }
  const came = samples.map((one) => one.came * 2);
  const waiting = samples.map((one) => [...one.queued.values()].reduce((sum, count) => sum + count, 0));
  const from = SAMPLES - samples.length;
  const area = points(came, 40, Math.max(20, ...came));
  tape.querySelector(".tape-messages").setAttribute("points", area && `${from},40 ${area} ${SAMPLES - 1},40`);
  tape.querySelector(".tape-queued").setAttribute("points", points(waiting, 40, Math.max(100, ...waiting)));
  moveMarks();
}

// ---- the tape's marks ------------------------------------------------------------------------------

const marks = []; // {at, item}

function addMark(className) {
  const item = document.createElement("li");
  item.className = className;
  byId("tape-marks").append(item);
  marks.push({ at: performance.now(), item });
  return item;
}

function mark(words) {
  const last = marks.findLast(({ item }) => item.className === "is-act");
  // Pressed again and again it is one label.
  if (last && performance.now() - last.at < 4000) last.item.remove();
  addMark("is-act").textContent = words;
  moveMarks();
}

function markStory(story) {
  const { number, place: where } = story.dataset;
  let item = byId("tape-marks").querySelector(`[data-story="${number}"]`);
  if (!item) {
    item = addMark("");
    item.dataset.story = number;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = where.split("-").slice(-1)[0] === "" ? where : story.querySelector(".story-name").textContent;
    button.addEventListener("click", () => {
      choose(where, { isFocused: false });
      show(number);
      showFacet("story");
    });
    item.append(button);
  }
  const line = story.querySelector(".story-line")?.textContent ?? "";
  item.className = story.classList.contains("is-give-up") ? "is-give-up" : "took" in story.dataset ? "is-done" : "";
  item.firstChild.title = line;
  item.firstChild.setAttribute("aria-label", `${item.firstChild.textContent}: ${line}`);
  moveMarks();
}

function moveMarks() {
  if (isPaused) return;
  const now = performance.now();
  const whole = SAMPLES * SAMPLE_MS;
  while (marks.length && now - marks[0].at > whole) marks.shift().item.remove();
  let next = 100;
  for (const { at, item } of [...marks].reverse()) {
    const left = Math.min(97, 100 - (100 * (now - at)) / whole);
    item.style.left = `${left}%`;
    if (item.className === "is-act") continue;
    // Those that would lie on each other say their names to who points at them.
    item.toggleAttribute("data-close", next - left < CLOSE);
    next = left;
  }
}

// ---- a crash -----------------------------------------------------------------------------------------

const seen = new Map(); // story number -> whether its end was seen

// The server sent a slot empty: this is another sandbox, which counts from one again.
function forget(emptied) {
  emptied.removeAttribute("data-shown");
  const here = told().map(numberOf);
  for (const number of seen.keys()) if (!here.includes(number)) seen.delete(number);
}

// What plays it comes when an actor is chosen first, or when one crashes.
const player = () => (dressInspector(), import(filesOf("crash")[0]));

async function onStory(story) {
  const number = numberOf(story);
  if (!number) return forget(story);
  if (story.dataset.number === stories.dataset.chosen) story.toggleAttribute("data-shown", true);
  const isOver = "took" in story.dataset;
  const isPast = !isAwaited && performance.now() - connectedAt < PAST_MS;
  const isNew = !seen.has(number);
  const wasOver = seen.get(number);
  seen.set(number, isOver || wasOver);
  if (isPast && isNew) return;
  isAwaited &&= !isNew;
  markStory(story);
  const isGiveUp = story.classList.contains("is-give-up");
  const isAbout = story.dataset.place === place || isGiveUp || !place;
  if (isNew && isAbout) {
    show(String(number));
    showFacet("story");
  }
  const isEnd = isOver && !wasOver;
  if (!isNew && !isEnd && !isGiveUp) return;
  dressInspector();
  const { tell, showGiveUp, playCrash, playReturn } = await player();
  if (isNew || isEnd) tell(story);
  if (isGiveUp) showGiveUp(story);
  if (isNew) playCrash(story);
  else if (isEnd) playReturn(story.dataset.place, []);
}

// ---- by keyboard -----------------------------------------------------------------------------------

let typed = "";
let typedAt = 0;

const isVisible = (chip) => !chip.closest("ul[role=group]") || getComputedStyle(chip).visibility !== "hidden";

function onStageKey(event) {
  const chip = event.target.closest("[role=treeitem]");
  if (!chip || event.ctrlKey || event.altKey || event.metaKey) return;
  const chips = [...stage.querySelectorAll("[role=treeitem]")].filter(isVisible);
  const at = chips.indexOf(chip);
  const group = chip.nextElementSibling;
  const isOpen = chip.getAttribute("aria-expanded");
  const above = chip.closest("ul").previousElementSibling;
  const to = (one) => one && focusChip(one);
  const moves = {
    ArrowDown: () => to(chips[at + 1]),
    ArrowUp: () => to(chips[at - 1]),
    Home: () => to(chips[0]),
    End: () => to(chips.at(-1)),
    ArrowRight: () => (isOpen === "false" ? chip.setAttribute("aria-expanded", "true") : to(group?.querySelector("[role=treeitem]"))),
    ArrowLeft: () => (isOpen === "true" && chip !== stage.querySelector("[role=treeitem]") ? chip.setAttribute("aria-expanded", "false") : to(above?.matches("[role=treeitem]") ? above : null)),
    Enter: () => choose(chip.dataset.place),
    " ": () => choose(chip.dataset.place),
    "*": () => stage.querySelectorAll("[aria-expanded=false]").forEach((one) => one.setAttribute("aria-expanded", "true")),
  };
  event.stopPropagation();
  if (event.key === "Escape") onKey(event);
  else if (event.key in moves) {
    event.preventDefault();
    moves[event.key]();
  } else if (/^[a-z0-9-]$/i.test(event.key)) {
    if ("ckf".includes(event.key) && chip.dataset.place === place) return onKey(event);
    typed = performance.now() - typedAt < 700 ? typed + event.key.toLowerCase() : event.key.toLowerCase();
    typedAt = performance.now();
    const after = [...chips.slice(at + (typed.length === 1 ? 1 : 0)), ...chips];
    to(after.find((one) => one.querySelector(".chip-name").textContent.startsWith(typed)));
  }
}

function onKey(event) {
  const isWriting = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (isWriting || event.ctrlKey || event.altKey || event.metaKey || lab.dataset.panel !== "tree") return;
  if (event.key === "Escape" && place) {
    const chip = chipAt(place);
    choose("");
    history.replaceState(null, "", "#tree");
    if (chip) focusChip(chip);
    return;
  }
  const action = place && { c: "crash", k: "kill", f: "flood" }[event.key];
  if (action) act(action);
}

function onClick(event) {
  const chip = event.target.closest("#stage [role=treeitem]");
  const button = event.target.closest("[data-act]");
  const facet = event.target.closest("[data-facet][role=tab]");
  if (chip) choose(chip.dataset.place);
  else if (button) act(button.dataset.act);
  else if (facet) showFacet(facet.dataset.facet);
}

function onTabKey(event) {
  const tabs = [...event.currentTarget.querySelectorAll("[role=tab]")];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
  event.preventDefault();
}

// ---- wiring -------------------------------------------------------------------------------------------

function onChange(changes) {
  const touched = new Set();
  for (const { target } of changes) {
    const one = target.nodeType === 1 ? target : target.parentElement;
    const story = one?.closest("#stories > li");
    if (story) touched.add(story);
    else if (one === byId("pulse") || one === byId("stage-state")) touched.add(one);
    else if (one?.closest("#stage")) touched.add(stage);
    // What was on its way when another one was chosen.
    else if (one === byId("inspector-body") && one.dataset.place && one.dataset.place !== place) emptyInspector();
  }
  for (const one of touched) {
    if (one.id === "pulse") onPulse();
    else if (one.id === "stage-state") {
      waitUntil = performance.now() + Number(state().wait) * 1000;
      healAt = performance.now() + Number(state().heals) * 1000;
    }
  }
  for (const one of [...touched].filter((item) => item.matches("#stories > li")).sort((a, b) => numberOf(a) - numberOf(b))) onStory(one);
  if (touched.has(byId("stage-state")) || touched.has(stage)) {
    showButtons();
    showQuota();
  }
}

// The stream is asked for with the panel that is seen then.
let asked = "";
addEventListener("greenroom-open", () => (asked = lab.dataset.panel));

function onConnection() {
  if (isConnected()) {
    connectedAt = performance.now();
    openFlow(location.hash);
    if (place || asked !== lab.dataset.panel) tellLook();
  } else connectedAt = Infinity;
  showButtons();
}

const observer = new MutationObserver(onChange);
const attributes = { attributes: true, subtree: true };
observer.observe(stories, { ...attributes, attributeFilter: ["data-number", "data-took", "data-decision"] });
observer.observe(byId("pulse"), { ...attributes, attributeFilter: ["data-number"] });
observer.observe(inspector, { ...attributes, attributeFilter: ["data-place"] });
observer.observe(stage, { ...attributes, attributeFilter: ["data-status"] });
observer.observe(document.querySelector(".stage-bar"), {
  ...attributes,
  attributeFilter: ["data-left", "data-access", "data-wait", "data-remade", "data-heals"],
});
new MutationObserver(onConnection).observe(root, { attributeFilter: ["data-connection"] });

stage.addEventListener("keydown", onStageKey);
document.addEventListener("keydown", onKey);
document.addEventListener("click", onClick);
for (const bar of document.querySelectorAll("[role=tablist]")) bar.addEventListener("keydown", onTabKey);
for (const link of document.querySelectorAll(".lab a[data-panel]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    history.replaceState(null, "", link.getAttribute("href"));
    showPanel(link.dataset.panel);
  });
}
byId("lab-reset").addEventListener("click", reset);
byId("tape-pause").addEventListener("click", ({ currentTarget }) => {
  isPaused = !isPaused;
  currentTarget.setAttribute("aria-pressed", String(isPaused));
  currentTarget.textContent = isPaused ? "Live" : "Pause";
  tape.classList.toggle("is-paused", isPaused);
  if (!isPaused) draw();
});
addEventListener("hashchange", onHash);
setInterval(() => {
  showQuota();
  moveMarks();
}, 1000);
try {
  byId("stage-hint").hidden = localStorage.getItem(HINT) === "seen";
} catch {
  // a browser that stores nothing shows it every time
}
showFacet("story");
showQuota();
// Before the browser runtime reads it: the stream is asked for with the panel that is seen.
const first = panelOf(location.hash);
lab.setAttribute("data-signals__ifmissing", `{labPanel: '${first}'}`);
showPanel(first);
try {
  if (document.querySelector("#chat-demo .from-you") || sessionStorage.getItem("greenroom-own-messages")) flows();
} catch {
  // a browser that stores nothing
}
const wanted = placeOf(location.hash);
if (wanted) choose(wanted, { isFocused: false });
