// The rooms: each message at the place of its number, and how long a draft may be.
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

const observer = new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const node of addedNodes) if (node.nodeName === "LI") place(node);
  }
});
for (const log of document.querySelectorAll("#chat-demo .log")) {
  // The list itself may be replaced.
  observer.observe(log, { childList: true, subtree: true });
}

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
