// A crash on the lab's stage, in slow motion; lab.js loads it when the first one may come.
//
// Rule: a crash takes less than a millisecond. It is played from its recorded steps, slower by a factor
// that is said, and only to who is there when it comes.

const SLOWER = 400;
const PLAY_MS_MOST = 2000;
const PLAY_MS_LEAST = 900;
const GIVE_UP_MS = 15000;
const SAID_MS = 2000;
// Whatever is played is over by then, also when its story has no end: a supervisor that gave up.
const PLAYED_MS_MOST = PLAY_MS_MOST + 2000;

const byId = (id) => document.getElementById(id);
const chipAt = (place) => byId(`chip-${place}`);
const edgeTo = (place) => byId(`edge-${place}`);
const numberOf = (story) => Number(story.dataset.number);
const lineOf = (story) => story.querySelector(".story-line").textContent;
const isStill = matchMedia("(prefers-reduced-motion: reduce)");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
let saidAt = -SAID_MS;

// LAB-83: not more often than one can listen.
export function tell(story) {
  const now = performance.now();
  if (now - saidAt < SAID_MS) return;
  saidAt = now;
  byId("stage-said").textContent = `${story.querySelector(".story-name").textContent}: ${lineOf(story)}`;
}

const ends = new Map();

function play(name, how) {
  const chip = chipAt(name);
  if (!chip) return;
  chip.dataset.play = how;
  clearTimeout(ends.get(name));
  ends.set(name, setTimeout(rest, PLAYED_MS_MOST, name));
}

function rest(name) {
  const chip = chipAt(name);
  if (chip) delete chip.dataset.play;
  edgeTo(name)?.classList.remove("is-lit");
}

function stepsOf(story) {
  const steps = new Map();
  for (const one of story.querySelectorAll(".waterfall li")) {
    steps.set(one.querySelector(".step-word").textContent, Number(one.querySelector("b").textContent.replaceAll(",", "")));
  }
  return steps;
}

export async function playCrash(story) {
  const number = numberOf(story);
  const name = story.dataset.place;
  const others = story.dataset.affected.split(" ").filter(Boolean);
  const steps = stepsOf(story);
  const isOver = "took" in story.dataset;
  const above = chipAt(name)?.closest("ul")?.previousElementSibling?.dataset?.place;
  if (isStill.matches) {
    if (isOver) playReturn(name, others);
    return;
  }
  const whole = Math.max(1, ...steps.values());
  const slow = Math.min(PLAY_MS_MOST, Math.max(PLAY_MS_LEAST, (whole / 1000) * SLOWER)) / whole;
  const until = async (word, part) => wait(Math.max(120, (steps.has(word) && isOver ? steps.get(word) * slow : part) - (performance.now() - began)));
  const began = performance.now();
  noteSpeed(Math.round(slow * 1000));
  play(name, "crack");
  await until("supervisor told", 250);
  edgeTo(name)?.classList.add("is-lit");
  if (above) play(above, "told");
  await until("decided", 500);
  for (const other of others) {
    edgeTo(other)?.classList.add("is-lit");
    play(other, "hollow");
    await wait(90);
  }
  play(name, "hollow");
  await until("running", 900);
  for (const one of [name, ...others]) edgeTo(one)?.classList.remove("is-lit");
  if (above) rest(above);
  if (numberOf(story) !== number || "took" in story.dataset) playReturn(name, others);
}

export async function playReturn(name, others) {
  for (const one of [name, ...others]) {
    edgeTo(one)?.classList.remove("is-lit");
    play(one, "reborn");
    setTimeout(rest, 1200, one);
    await wait(isStill.matches ? 0 : 90);
  }
}

let noteTimer = 0;

function noteSpeed(factor) {
  let note = document.querySelector(".lab .play-note");
  if (!note) {
    note = document.createElement("p");
    note.className = "play-note";
    document.querySelector(".lab [data-scene=own]").append(note);
  }
  note.textContent = `shown ${factor.toLocaleString()} times slower`;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => note.remove(), PLAY_MS_MOST + 1500);
}

let giveUpTimer = 0;

export function showGiveUp(story) {
  const line = byId("stage-give-up");
  line.textContent = lineOf(story);
  line.hidden = false;
  byId("stage-hint").hidden = true;
  clearTimeout(giveUpTimer);
  giveUpTimer = setTimeout(() => (line.hidden = true), GIVE_UP_MS);
}
