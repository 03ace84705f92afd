// A tree by keyboard and pointer: arrows move, Enter folds (the tree pattern of ARIA).

// What is folded in the site's tree stays so when the page is loaded anew, or a branch started anew:
// a branch is known by the names down to it. Kept for this tab.

const FOLDED = "greenroom-folded";
// More than the site has supervisors.
const FOLDED_MOST = 100;
const site = document.getElementById("tree-target");
const folded = new Set();
try {
  for (const path of JSON.parse(sessionStorage.getItem(FOLDED) ?? "[]")) folded.add(path);
} catch {
  // a browser that stores nothing knows those of this page
}

function pathOf(item) {
  const names = [];
  for (let at = item; at?.matches("[role=treeitem]"); at = at.parentElement.parentElement.previousElementSibling) {
    names.unshift(at.querySelector(".name").textContent);
  }
  return names.join("/");
}

function fold(item, isOpen) {
  if (!item.hasAttribute("aria-expanded")) return;
  item.setAttribute("aria-expanded", String(isOpen));
  if (!site?.contains(item)) return;
  if (isOpen) folded.delete(pathOf(item));
  else folded.add(pathOf(item));
  try {
    sessionStorage.setItem(FOLDED, JSON.stringify([...folded].slice(-FOLDED_MOST)));
  } catch {
    // see above
  }
}

function foldAgain() {
  for (const item of site.querySelectorAll("[aria-expanded='true']")) {
    if (folded.has(pathOf(item))) item.setAttribute("aria-expanded", "false");
  }
}

if (site) {
  foldAgain();
  // Only what comes or goes: a row that is patched keeps its state.
  new MutationObserver(() => folded.size && foldAgain()).observe(site, { childList: true, subtree: true });
}

function focusItem(tree, item) {
  if (!item) return;
  for (const other of tree.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  item.tabIndex = 0;
  item.focus();
}

function onTreeKey(event) {
  const item = event.target.closest("[role=treeitem]");
  const tree = event.target.closest("[role=tree]");
  if (!item || !tree || event.ctrlKey || event.altKey || event.metaKey) return;
  const shown = [...tree.querySelectorAll("[role=treeitem]")].filter((other) => other.offsetParent);
  const at = shown.indexOf(item);
  const state = item.getAttribute("aria-expanded");
  const above = item.parentElement.parentElement.previousElementSibling;
  const moves = {
    ArrowDown: () => focusItem(tree, shown[at + 1]),
    ArrowUp: () => focusItem(tree, shown[at - 1]),
    Home: () => focusItem(tree, shown[0]),
    End: () => focusItem(tree, shown.at(-1)),
    ArrowRight: () => (state === "false" ? fold(item, true) : state && focusItem(tree, item.nextElementSibling?.querySelector("[role=treeitem]"))),
    ArrowLeft: () => (state === "true" ? fold(item, false) : focusItem(tree, above?.matches("[role=treeitem]") && above)),
    Enter: () => fold(item, state === "false"),
    " ": () => fold(item, state === "false"),
  };
  if (!(event.key in moves)) return;
  event.preventDefault();
  moves[event.key]();
}

function onTreeClick(event) {
  const item = event.target.closest("[role=treeitem]");
  if (!item) return;
  if (event.target.closest(".twig")) fold(item, item.getAttribute("aria-expanded") === "false");
  focusItem(item.closest("[role=tree]"), item);
}

document.addEventListener("keydown", onTreeKey);
document.addEventListener("click", onTreeClick);
