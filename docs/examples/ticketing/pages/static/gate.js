// The camera at a gate: what it reads is checked as a code that was typed, and the page stays.
// Without this file, or a camera, the form does all of it.

const LOOK_MS = 120;
// A ticket that was checked is not checked again while it is still held there.
const FORGET_MS = 3000;
const ANSWER_MS = 15_000;
// Before a ticket that is still held there is sent to a server again that did not answer.
const AWAY_MS = 1000;
// A code fills most of what the eye of a telephone sees: more dots of it make no more of a code.
const SIDE_MAX = 640;

const scanner = document.getElementById("scanner");
const form = document.getElementById("check");
const button = document.getElementById("scan");
const label = button.querySelector("span");
const view = document.getElementById("scan-view");
const line = document.getElementById("scan-says");
const START = label.textContent;

// One for each time the camera is on; what is awaited meanwhile sees that it is another one.
let turn = null;

function say(text) {
  if (line.textContent !== text) line.textContent = text;
}

function stop(text) {
  for (const track of turn?.stream?.getTracks() ?? []) track.stop();
  turn = null;
  view.srcObject = null;
  view.hidden = true;
  label.textContent = START;
  say(text);
}

const REFUSED = {
  NotAllowedError: "This page may not use the camera. Allow it in the browser's settings for this site, or type the code.",
  NotFoundError: "This device has no camera that works. Type the code.",
  NotReadableError: "Another program uses the camera. Close that, or type the code.",
};

async function start() {
  if (!form.elements.gate.reportValidity()) return;
  const mine = { stream: null };
  turn = mine;
  label.textContent = "Stop the camera";
  say("Waiting for the camera.");
  try {
    const video = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 720 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video });
    mine.stream = stream;
    if (turn !== mine) {
      // It was asked for, and given up before anybody allowed it.
      for (const track of stream.getTracks()) track.stop();
      return;
    }
    for (const track of stream.getTracks()) {
      track.addEventListener("ended", () => turn === mine && stop("The camera was taken away. Start it again, or type the code."));
    }
    view.srcObject = stream;
    view.hidden = false;
    await view.play();
    say("Hold a ticket before the camera.");
    await look(mine, await readers());
  } catch (error) {
    if (turn === mine) stop(REFUSED[error.name] ?? "The camera does not work here. Type the code.");
  }
}

// The browser's own reader where there is one, which may fail at its first picture; then ours.
async function readers() {
  const found = [];
  if ("BarcodeDetector" in window) {
    const kinds = await BarcodeDetector.getSupportedFormats().catch(() => []);
    if (kinds.includes("qr_code")) {
      const detector = new BarcodeDetector({ formats: ["qr_code"] });
      found.push(async () => (await detector.detect(view))[0]?.rawValue ?? null);
    }
  }
  const { read } = await import(scanner.dataset.reader);
  const canvas = document.createElement("canvas");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  found.push(async () => {
    const side = Math.min(view.videoWidth, view.videoHeight);
    canvas.width = canvas.height = Math.min(side, SIDE_MAX);
    const [left, top] = [(view.videoWidth - side) / 2, (view.videoHeight - side) / 2];
    pen.drawImage(view, left, top, side, side, 0, 0, canvas.width, canvas.height);
    return read(pen.getImageData(0, 0, canvas.width, canvas.height));
  });
  return found;
}

async function look(mine, found) {
  let [last, seenAt] = ["", 0];
  while (turn === mine) {
    let code = null;
    try {
      if (view.videoWidth) code = await found[0]();
    } catch (error) {
      if (found.length === 1) throw error;
      found.shift();
      continue;
    }
    if (turn !== mine) return;
    const now = performance.now();
    let rest = LOOK_MS;
    if (code !== null) {
      const isAgain = code === last && now - seenAt < FORGET_MS;
      seenAt = now;
      if (!isAgain) {
        const isChecked = await check(code);
        [last, rest] = isChecked ? [code, LOOK_MS] : ["", AWAY_MS];
        seenAt = performance.now();
      }
    }
    await new Promise((done) => setTimeout(done, rest));
  }
}

// Whether it was checked; the page of the answer has the verdict, and the next form's token.
async function check(code) {
  say("Checking.");
  const body = new URLSearchParams(new FormData(form));
  body.set("code", code);
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const answer = await fetch(form.action, { method: "POST", body, headers: { accept: "text/html" }, signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const verdict = page.getElementById("verdict");
    if (verdict) {
      document.getElementById("verdicts").replaceChildren(document.adoptNode(verdict));
      form.elements.csrf.value = page.getElementById("check").elements.csrf.value;
      document.title = page.title;
      scrollTo({ top: 0 });
      if (turn) say("Hold the next ticket before the camera.");
      return true;
    }
    const told = answer.redirected ? "you are signed out" : page.querySelector("h1")?.textContent ?? `status ${answer.status}`;
    stop(`It was not checked: ${told}. Load this page again.`);
  } catch {
    if (turn) say("No answer came: hold the ticket there again.");
  }
  return false;
}

button.addEventListener("click", () => (turn ? stop("The camera is off.") : start()));
// Nobody is watched by a page that they have left, or do not see.
addEventListener("pagehide", () => turn && stop(""));
document.addEventListener("visibilitychange", () => document.hidden && turn && stop("The camera is off."));
if (navigator.mediaDevices?.getUserMedia) button.hidden = false;
else say(isSecureContext ? "This browser gives pages no camera: type the code." : "Browsers give pages a camera over https only: type the code.");
scanner.hidden = false;
