// The lab's tabs Connections, Sign-ins and Sagas: their buttons, and how long the way to the server and back is.

const byId = (id) => document.getElementById(id);
const lab = document.querySelector(".lab");
const TRIP_MS = 5000;
let trip = "";

const REFUSED = {
  0: "No answer: nothing is known to have happened.",
  404: "It is not open any more.",
  409: "Not possible just now.",
  428: "This page has no stream just now.",
  429: "That was too often.",
  503: "The lab is closed for actions just now.",
};

async function drop(name) {
  const note = byId("connections-note");
  const tab = document.querySelector("#chat-demo [name=sseTabId]").value;
  const status = await send(`/api/lab/streams/${name}/drop`, {
    headers: { "content-type": "application/json", "datastar-request": "true" },
    body: JSON.stringify({ commandId: crypto.randomUUID(), sseTabId: tab }),
  });
  note.textContent = status === 202 ? "Dropped." : (REFUSED[status] ?? "That failed.");
}

async function end(reference) {
  const status = await send("/account/sessions/revoke", {
    body: new URLSearchParams({ session_ref: reference }),
    redirect: "manual",
  });
  // A redirect that is not followed has no status.
  byId("sign-ins-note").textContent = status === 0 || status === 303 ? "Ended." : status === 404 ? "It has ended already." : "That failed.";
}

const SAGA_REFUSED = { ...REFUSED, 404: "It is not shown any more.", 409: "Not possible now: it is over, its actor is just coming back, or enough are running." };

async function actOnSaga(path, fields) {
  const tab = document.querySelector("#chat-demo [name=sseTabId]").value;
  const status = await send(path, {
    headers: { "content-type": "application/json", "datastar-request": "true" },
    body: JSON.stringify({ commandId: crypto.randomUUID(), sseTabId: tab, ...fields }),
  });
  byId("sagas-note").textContent = status === 202 ? "" : (SAGA_REFUSED[status === -1 ? 0 : status] ?? "That failed.");
}

function actOnStep(button) {
  const saga = button.closest("[data-saga]").dataset.saga;
  const step = button.closest("[data-step]")?.dataset.step;
  actOnSaga(`/api/lab/sagas/${saga}/${button.dataset.sagaAct}`, step ? { step } : {});
}

// How long until a step is tried again, or given up: by the second, whatever this browser's clock says.
let ends = new Map();
function countDown() {
  const now = performance.now(), shown = new Map();
  for (const due of document.querySelectorAll("#sagas-list [data-due]")) {
    const { due: at, left } = due.dataset;
    shown.set(at, ends.get(at) ?? now + Number(left));
    const text = `${Math.max(0, Math.ceil((shown.get(at) - now) / 1000))} s left`;
    if (due.textContent !== text) due.textContent = text;
  }
  ends = shown;
}

async function send(path, more) {
  try {
    return (await fetch(path, { method: "POST", ...more })).status;
  } catch {
    return -1;
  }
}

async function measure() {
  if (lab.dataset.panel !== "connections" || document.visibilityState !== "visible") return;
  const began = performance.now();
  try {
    await fetch("/health", { cache: "no-store" });
    trip = `${(performance.now() - began).toFixed(0)} ms`;
  } catch {
    trip = "–";
  }
  showTrip();
}

function showTrip() {
  const cell = document.querySelector("#connections-list [data-trip]");
  if (cell && trip && cell.textContent !== trip) cell.textContent = trip;
}

lab.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-drop], [data-end], [data-saga-start], [data-saga-act], [data-saga-clock]");
  if (button?.dataset.drop) drop(button.dataset.drop);
  else if (button?.dataset.sagaStart) actOnSaga("/api/lab/sagas", { choice: button.dataset.sagaStart });
  else if (button?.dataset.sagaAct) actOnStep(button);
  else if (button && "sagaClock" in button.dataset) actOnSaga("/api/lab/sagas/clock/advance", {});
  else if (button) end(button.dataset.end);
});
new MutationObserver(showTrip).observe(byId("connections"), { childList: true, subtree: true });
addEventListener("greenroom-panel", measure);
setInterval(measure, TRIP_MS);
new MutationObserver(countDown).observe(byId("sagas"), { childList: true, subtree: true, characterData: true });
setInterval(countDown, 1000);
