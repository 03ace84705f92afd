// A learning path is ticked off line by line. The browser keeps which lines are done, and no server
// hears of it; without scripts the path is a list to be read.
//
// Rule: it never builds markup; texts are set as textContent only.

const KEPT = "greenroom-learned";

// By path: how many lines it has, and where those lead to that are done.
function learned() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    return kept && typeof kept === "object" ? kept : {};
  } catch {
    return {}; // no storage, or nothing of ours in it
  }
}

function keep(path, lines, done) {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ ...learned(), [path]: { lines, done } }));
  } catch {
    // It is ticked as long as the page is open.
  }
}

function doneOf(path) {
  const done = learned()[path]?.done;
  return new Set(Array.isArray(done) ? done : []);
}

function nameOf(link) {
  const found = /^\/docs\/learn\/([a-z-]+)$/.exec(link.pathname);
  return found && link.origin === location.origin ? found[1] : null;
}

const path = nameOf(location);
const list = path && document.querySelector(".prose > ol");

if (list) {
  const places = new Map();
  for (const line of list.children) {
    const link = line.querySelector("a");
    if (link) places.set(line, link.getAttribute("href"));
  }
  const status = document.createElement("p");
  status.className = "learned";
  status.setAttribute("role", "status");
  const done = doneOf(path);

  function tell() {
    const count = [...places.values()].filter((place) => done.has(place)).length;
    const left = places.size - count;
    if (!count) status.textContent = "Nothing is ticked off yet: begin with the first line.";
    else status.textContent = left ? `${count} of ${places.size} done.` : "You have walked it.";
  }

  for (const [line, place] of places) {
    const tick = document.createElement("input");
    tick.type = "checkbox";
    tick.className = "tick";
    tick.checked = done.has(place);
    tick.setAttribute("aria-label", `Done: ${line.querySelector("a").textContent}`);
    tick.addEventListener("change", () => {
      if (tick.checked) done.add(place);
      else done.delete(place);
      keep(path, places.size, [...done]);
      tell();
    });
    line.prepend(tick);
  }
  list.classList.add("ticked");
  list.before(status);
  tell();
}

// Elsewhere a link to a path says how far one is on it.
for (const link of document.querySelectorAll(".all-pages a")) {
  const name = nameOf(link);
  const kept = name && learned()[name];
  if (!kept || !Number.isInteger(kept.lines)) continue;
  const count = doneOf(name).size;
  if (!count) continue;
  const told = document.createElement("span");
  told.className = "minutes";
  told.textContent = `${Math.min(count, kept.lines)} of ${kept.lines} done`;
  link.after(" ", told);
}
