// From an own message to its flow in the timeline (LAB-68); lab.js loads it when one may be there.
//
// The server marks what a member wrote; which words of the demo user are one's own is told to the page
// that sent them, and kept for this tab.

const KEPT = "greenroom-own-messages";
// As many as a room's window holds, in both of its logs.
const KEPT_MOST = 100;
const GONE = "Its flow is not kept any more: a quarter of an hour, and of this browser only.";

const byId = (id) => document.getElementById(id);
const chat = byId("chat-demo");
const own = new Set();
try {
  for (const id of JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")) own.add(id);
} catch {
  // a browser that stores nothing knows those of this page
}

const idOf = (item) => item.id.replace(/^chat-(you|demo)-/, "");

function link(item) {
  if (!item.dataset.seq || (!item.classList.contains("from-you") && !own.has(idOf(item)))) return;
  const head = item.querySelector(".message-head");
  if (!head || head.querySelector(".flow-link")) return;
  const anchor = document.createElement("a");
  anchor.className = "flow-link";
  anchor.href = `#flow-of-${idOf(item)}`;
  anchor.textContent = "flow";
  anchor.title = "What this message has caused, in the timeline";
  head.append(" ", anchor);
}

const linkAll = () => chat.querySelectorAll(".log li[data-seq]").forEach(link);

// Called by lab.js with the id of what was just posted here.
export function keep(id) {
  own.add(id);
  const kept = [...own].slice(-KEPT_MOST);
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  } catch {
    // see above
  }
  linkAll();
}

// Called by lab.js, also for a page that is opened by such an address.
export async function open(id) {
  const tab = chat.querySelector("[name=sseTabId]").value;
  const { status } = await fetch("/api/operations/filter", {
    method: "POST",
    headers: { "content-type": "application/json", "datastar-request": "true" },
    body: JSON.stringify({ sseTabId: tab, messageId: id }),
  }).catch(() => ({ status: 0 }));
  if (status === 204) return;
  const message = status === 404 ? GONE : "The timeline does not answer just now. Try again soon.";
  window.dispatchEvent(new CustomEvent("greenroom-banner", { detail: { title: "No flow", message, status } }));
}

new MutationObserver(linkAll).observe(chat, { childList: true, subtree: true });
linkAll();
