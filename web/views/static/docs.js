// The documents' own script: copying a program, and where in the page one is.
//
// Rule: it never builds markup; texts are set as textContent only.

// Long enough to be read, short enough to be out of the way of the next click.
const TOLD_MS = 2000;

const told = new WeakMap();

async function copy(button) {
  const text = button.parentElement.querySelector("code").textContent;
  let word = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No permission, or no secure page: the text is chosen, so that the keyboard can copy it.
    getSelection().selectAllChildren(button.parentElement.querySelector("code"));
    word = "Chosen";
  }
  clearTimeout(told.get(button));
  button.textContent = word;
  told.set(button, setTimeout(() => (button.textContent = "Copy"), TOLD_MS));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button);
});

// ---- the list of contents ------------------------------------------------------------------

const links = new Map();
for (const link of document.querySelectorAll(".contents a")) {
  const heading = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (heading) links.set(heading, link);
}

function markPlace() {
  let place = null;
  // The last one that has passed a third of the window is being read.
  for (const heading of links.keys()) {
    if (heading.getBoundingClientRect().top > innerHeight / 3) break;
    place = heading;
  }
  for (const [heading, link] of links) {
    if (heading === place) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

let isPlanned = false;
function plan() {
  if (!isPlanned) requestAnimationFrame(() => ((isPlanned = false), markPlace()));
  isPlanned = true;
}

if (links.size) {
  addEventListener("scroll", plan, { passive: true });
  addEventListener("resize", plan, { passive: true });
  markPlace();
}

// The shelf alone is scrolled; where it has no place of its own, nothing is.
const shelf = document.querySelector(".shelf");
const current = shelf.querySelector("[aria-current]");
if (current && getComputedStyle(shelf).position === "sticky") {
  const from = current.getBoundingClientRect().top - shelf.getBoundingClientRect().top;
  shelf.scrollTop = Math.max(0, from - shelf.clientHeight / 2);
}
