// A tree by keyboard and pointer: arrows move, Enter folds (the tree pattern of ARIA).

function fold(item, isOpen) {
  if (item.hasAttribute("aria-expanded")) item.setAttribute("aria-expanded", String(isOpen));
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
