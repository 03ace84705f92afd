// A burst of requests: 24 workers ask the probe until so many were sent, and count what came back.
//
// Rules:
// 1. OK + failed = sent, also after Stop: what is under way is waited for, and nothing new is sent.
// 2. What is shown changes with every twentieth answer, the bar of tokens twice a second.

const WORKERS = 24;
const SHOWN_EVERY = 20;
const BAR_MS = 500;
const CAPACITY = 5000;
const REFILL_PER_S = 250;
const PROBE = "/api/burst/probe";

const byId = (id) => document.getElementById(id);
const figure = (name) => document.querySelector(`#request-burst-demo [data-figure="${name}"]`);
const grouped = (number) => Math.round(number).toLocaleString("en");
const count = byId("burst-count");

let run = null;
let baseline = null;
let tokens = null; // {left, at}

const reasons = {
  429: (after) => `429: the bucket is empty; a token is back in ${after} s`,
  503: () => "503: the server has too much in hand",
};

function within(times, part) {
  if (!times.length) return "–";
  const sorted = Float64Array.from(times).sort();
  return `${sorted[Math.min(sorted.length - 1, Math.ceil((part / 100) * sorted.length) - 1)].toFixed(1)} ms`;
}

async function ask(one) {
  const number = one.sent++;
  const began = performance.now();
  try {
    const answer = await fetch(`${PROBE}?i=${number}&t=${Math.round(began)}`, {
      cache: "no-store",
      headers: { "x-request-burst": "1" },
    });
    const left = answer.headers.get("x-burst-tokens");
    if (left !== null) tokens = { left: Number(left), at: performance.now() };
    if (answer.status === 204) {
      one.ok++;
      one.browser.push(performance.now() - began);
      const took = /dur=([\d.]+)/.exec(answer.headers.get("server-timing") ?? "");
      if (took) one.server.push(Number(took[1]));
      return;
    }
    one.reason = reasons[answer.status]?.(answer.headers.get("retry-after") ?? 1) ?? `${answer.status}`;
  } catch {
    one.reason = "no answer: the connection failed";
  }
  one.failed++;
}

async function work(one) {
  while (!one.isStopped && one.sent < one.wanted) {
    await ask(one);
    if ((one.ok + one.failed) % SHOWN_EVERY === 0) show(one);
  }
}

async function start() {
  if (run) return;
  run = { wanted: Number(count.value), sent: 0, ok: 0, failed: 0, browser: [], server: [], reason: "", isStopped: false, began: performance.now(), took: 0 };
  const one = run;
  setControls(true);
  await Promise.all(Array.from({ length: WORKERS }, () => work(one)));
  one.took = performance.now() - one.began;
  run = null;
  setControls(false);
  show(one);
  byId("burst-said").textContent = byId("burst-status").textContent;
  if (one.ok) baseline = one;
}

function setControls(isRunning) {
  count.disabled = isRunning;
  byId("burst-start").disabled = isRunning;
  byId("burst-stop").disabled = !isRunning;
  if (isRunning) byId("burst-stop").focus();
  else byId("burst-start").focus();
}

const rate = (one) => one.ok / ((one.took || performance.now() - one.began) / 1000);

function show(one) {
  const done = one.ok + one.failed;
  const word = one !== run && one.took ? (one.isStopped ? "Stopped" : "Done") : "Sending";
  byId("burst-status").textContent = `${word}: ${grouped(done)} of ${grouped(one.wanted)} answered, ${grouped(one.ok)} OK, ${grouped(one.failed)} failed.`;
  const seconds = (one.took || performance.now() - one.began) / 1000;
  const rows = {
    endpoint: PROBE,
    workers: WORKERS,
    sent: grouped(one.sent),
    ok: grouped(one.ok),
    failed: grouped(one.failed),
    throughput: `${grouped(rate(one))}/s`,
    duration: `${seconds.toFixed(2)} s`,
    baseline: baseline && baseline !== one ? `${grouped(rate(baseline))}/s` : "none yet",
    difference: baseline && baseline !== one ? `${rate(one) >= rate(baseline) ? "+" : "−"}${Math.abs((100 * rate(one)) / rate(baseline) - 100).toFixed(0)} %` : "–",
    reason: one.reason || "none",
  };
  for (const [name, value] of Object.entries(rows)) figure(name).textContent = value;
  for (const part of [50, 95, 99]) {
    figure(`browser-${part}`).textContent = within(one.browser, part);
    figure(`server-${part}`).textContent = within(one.server, part);
  }
}

function showTokens() {
  if (!tokens || byId("request-burst-demo").offsetParent === null) return;
  const left = Math.min(CAPACITY, tokens.left + ((performance.now() - tokens.at) / 1000) * REFILL_PER_S);
  byId("burst-tokens").value = left;
  byId("burst-tokens-shown").textContent = `${grouped(left)} of ${grouped(CAPACITY)}`;
}

count.addEventListener("input", () => (byId("burst-count-shown").textContent = grouped(Number(count.value))));
byId("burst-form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
byId("burst-stop").addEventListener("click", () => {
  if (run) run.isStopped = true;
});
setInterval(showTokens, BAR_MS);
byId("burst-count-shown").textContent = grouped(Number(count.value));
