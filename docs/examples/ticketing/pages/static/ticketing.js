// The countdown of a reservation, and how many seats are chosen. Without this file pages say the
// same in words, and the form is the same.

const SOON_S = 60;

// A telephone's clock may be minutes off: what counts is how long it was to go when the page came.
const sentAt = Date.parse(document.querySelector("meta[name='sent-at']")?.content ?? "");
const drift = sentAt ? Date.now() - sentAt : 0;

function tick() {
  for (const time of document.querySelectorAll("time[data-until]")) {
    const line = time.parentElement;
    const left = line.querySelector("[data-left]");
    const goneMs = Date.now() - drift;
    const seconds = Math.max(0, Math.ceil((Date.parse(time.dataset.until) - goneMs) / 1000));
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (left.textContent !== text) left.textContent = text;
    left.toggleAttribute("data-soon", seconds < SOON_S);
    // Told once, and not each second.
    const said = seconds < SOON_S ? "Less than a minute is left." : "";
    const warning = line.querySelector("[data-soon-said]");
    if (warning.textContent !== said) warning.textContent = said;
  }
}

function count(event) {
  const seat = event.target;
  if (!seat.matches("input[name='seat']")) return;
  const row = seat.closest(".section-row");
  // An order is for one section: what was chosen in another one is let go.
  for (const other of document.querySelectorAll("input[name='seat']:checked")) {
    if (!row.contains(other)) other.checked = false;
  }
  const chosen = row.querySelectorAll("input[name='seat']:checked").length;
  row.querySelector("input[name='section']").checked = true;
  const quantity = document.getElementById("quantity");
  if (quantity && chosen) quantity.value = String(Math.min(chosen, quantity.options.length));
}

document.addEventListener("change", count);
tick();
setInterval(tick, 500);
// What a stream brings later is counted at once.
new MutationObserver(tick).observe(document.getElementById("main"), { childList: true, subtree: true });
