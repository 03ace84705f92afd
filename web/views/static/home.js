// The home page's stage: wakes a sandbox of one's own at the first wish, crashes one actor of it,
// and plays what came of it. The chips are patched by the stream, as in the lab.
//
// Rule: it never builds markup; texts are set as textContent only.

const LOOK_AGAIN_MS = 250;
// A sandbox is there within a second; longer than this something is wrong.
const AWAKE_MS_MOST = 8000;
// A restart takes a millisecond; it is shown so slowly that it can be seen.
const STEP_MS = 420;

const REFUSED = {
  0: "No answer: nothing is known to have happened.",
  409: "It is not running just now; try again.",
  428: "This page has no stream yet; try again.",
  429: "That was too often; wait a little.",
  503: "The lab is closed for actions just now.",
};

const figure = document.querySelector(".home-stage");
const stage = document.getElementById("stage");
const button = document.getElementById("home-crash");
const note = document.getElementById("home-note");
const stories = document.getElementById("stories");
const isStill = matchMedia("(prefers-reduced-motion: reduce)");
const isConnected = () => document.documentElement.dataset.connection === "connected";
const chipAt = (place) => document.getElementById(`chip-${place}`);
const state = () => document.getElementById("stage-state");
const numberOf = (story) => Number(story.dataset.number);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

let target = "feed-sink";
let isAwake = false;
let isBusy = false;
let shown = 0;

async function post(path, fields) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json", "datastar-request": "true" },
      body: JSON.stringify({ sseTabId: button.dataset.tab, ...fields }),
    });
    return answer.status;
  } catch {
    return 0;
  }
}

async function until(isSo, ms) {
  const end = performance.now() + ms;
  while (!isSo() && performance.now() < end) await wait(LOOK_AGAIN_MS / 2);
  return isSo();
}

// ---- crashing ------------------------------------------------------------------------------

async function wake() {
  if (!isAwake) {
    note.textContent = "Starting actors for you alone …";
    const status = await post("/api/lab/look", { panel: "tree", place: "" });
    if (status !== 202) return status;
    // A stream that is opened again asks for the stage by itself.
    window.dispatchEvent(new CustomEvent("greenroom-panel", { detail: "tree" }));
    isAwake = true;
  }
  const isReady = () => state().dataset.access !== "shared" && chipAt(target)?.dataset.status === "running";
  await until(isReady, AWAKE_MS_MOST);
  return state().dataset.access === "open" ? 202 : 503;
}

async function crash() {
  if (isBusy) return;
  if (!isConnected()) {
    note.textContent = "This page is not connected just now.";
    return;
  }
  isBusy = true;
  showButton();
  let status = await wake();
  if (status === 202) {
    status = await post(`/api/lab/actors/${target}/crash`, { commandId: crypto.randomUUID() });
  } else if (status === 503) {
    note.textContent = state().textContent;
  }
  if (status !== 202 && status !== 503) note.textContent = REFUSED[status] ?? "That failed.";
  isBusy = false;
  showButton();
}

function showButton() {
  button.setAttribute("aria-disabled", String(isBusy || !isConnected()));
}

function choose(chip) {
  // A supervisor does nothing that could crash; in the lab it can be killed.
  if (!chip || chip.classList.contains("is-supervisor")) return;
  target = chip.dataset.place;
  button.querySelector("span").textContent = chip.querySelector(".chip-name").textContent;
  for (const one of stage.querySelectorAll(".chip")) {
    one.setAttribute("aria-selected", String(one === chip));
  }
}

// ---- what came of it -------------------------------------------------------------------------

function play(place, how) {
  const chip = chipAt(place);
  if (!chip) return;
  if (how) chip.dataset.play = how;
  else delete chip.dataset.play;
}

async function playCrash(story) {
  if (isStill.matches) return;
  const place = story.dataset.place;
  const others = story.dataset.affected.split(" ").filter((one) => one && one !== place);
  const above = chipAt(place)?.closest("ul")?.previousElementSibling?.dataset?.place;
  play(place, "crack");
  await wait(STEP_MS);
  if (above) play(above, "told");
  await wait(STEP_MS);
  for (const one of [place, ...others]) play(one, "hollow");
  await wait(STEP_MS);
  if (above) play(above, "");
  for (const one of [place, ...others]) play(one, "reborn");
  await wait(3 * STEP_MS);
  for (const one of [place, ...others]) play(one, "");
}

function onStories() {
  const newest = [...stories.children].sort((one, other) => numberOf(other) - numberOf(one))[0];
  // Of another sandbox, which counts from one again.
  shown = Math.min(shown, numberOf(newest));
  if (!numberOf(newest)) {
    for (const story of stories.children) story.removeAttribute("data-shown");
    return;
  }
  if (!newest.hasAttribute("data-shown")) {
    for (const story of stories.children) story.toggleAttribute("data-shown", story === newest);
  }
  if (numberOf(newest) > shown) {
    note.textContent = "";
    shown = numberOf(newest);
    playCrash(newest);
  }
}

button.addEventListener("click", crash);
stage.addEventListener("click", (event) => choose(event.target.closest(".chip")));
stage.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") choose(event.target.closest(".chip"));
});
new MutationObserver(onStories).observe(stories, {
  subtree: true,
  childList: true,
  attributes: true,
  attributeFilter: ["data-number"],
});
new MutationObserver(showButton).observe(document.documentElement, {
  attributes: true,
  attributeFilter: ["data-connection"],
});
figure.classList.add("is-running");
choose(chipAt(target));
showButton();
