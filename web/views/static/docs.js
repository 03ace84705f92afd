// The documents' own script: where in the page one is, in its contents and on the shelf.

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
