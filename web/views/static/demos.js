// The demos: what the server will say is guessed at once, and put right when nothing is on its way.
//
// Rule: it never builds markup; texts are set as textContent.

// An answer may be read before the patch that the server wrote first: they come on two connections.
const SETTLE_MS = 150;

const counter = document.getElementById("demo-counter");
let underWay = 0;
let settling = 0;
let pingedAt = 0;

const settle = () => counter.dispatchEvent(new CustomEvent("greenroom-settled"));

// Called by the counter's attribute when the server has told its number.
window.greenroomCounted = () => {
  if (underWay === 0) settle();
};

function onCounter(type) {
  clearTimeout(settling);
  if (type === "started") underWay += 1;
  else if (type === "finished") underWay = Math.max(0, underWay - 1);
  if (underWay === 0) settling = setTimeout(settle, SETTLE_MS);
}

document.addEventListener("datastar-fetch", ({ detail: { type, el } }) => {
  if (el === counter) onCounter(type);
});
// What the server told before this file was here.
settle();
document.getElementById("demo-ping").addEventListener("submit", () => (pingedAt = performance.now()));

// From the click to the result on the page: the answer alone says nothing.
new MutationObserver(() => {
  const place = document.querySelector("#demo-ping-result .round-trip");
  if (!place || !pingedAt) return;
  place.textContent = `${(performance.now() - pingedAt).toFixed(1)} ms`;
  pingedAt = 0;
}).observe(document.getElementById("demos"), { childList: true, subtree: true });
