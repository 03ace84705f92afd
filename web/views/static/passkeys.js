// Passkeys: asks the server what is wanted, the browser for it, and sends the form with the answer.
//
// A `form[data-passkey]` says there what for, and in its field `domain`, which is not sent, for which
// domain.
// Rules: it never builds markup, texts are set as textContent only; what is not understood is left
// to the other ways, which need no script.

const BEGIN = {
  "add": "/api/v1/auth/passkey/register/begin",
  "sign-in": "/api/v1/auth/passkey/login/begin",
  "second": "/api/v1/auth/passkey/login/begin",
  "prove": "/api/v1/auth/step-up/begin",
};

const b64 = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

const unb64 = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));

const unpacked = (list) => list.map((one) => ({ ...one, id: unb64(one.id) }));

function asked(form) {
  const kind = form.dataset.passkey;
  if (kind === "second") return { ticket: form.elements.ticket.value };
  if (kind === "prove") return { level: 2 };
  if (kind === "add") return { device_name: form.elements.name.value };
  const email = document.querySelector("form input[name=email]");
  return email && email.value && email.checkValidity() ? { email: email.value } : {};
}

async function begin(form) {
  const response = await fetch(BEGIN[form.dataset.passkey], {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(asked(form)),
  });
  if (response.ok) return (await response.json()).options;
  if (response.headers.has("x-greenroom-step-up")) {
    location.assign("/account/prove?next=/account");
    return null;
  }
  const wait = response.headers.get("retry-after");
  throw new Error(wait ? `Too much just now; try again in ${wait} seconds.` : "This did not work; take another way.");
}

async function made(options) {
  const key = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: unb64(options.challenge),
      user: { ...options.user, id: unb64(options.user.id) },
      excludeCredentials: unpacked(options.excludeCredentials),
    },
  });
  return answer(key, { attestationObject: b64(key.response.attestationObject) });
}

async function signed(options) {
  const key = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: unb64(options.challenge),
      allowCredentials: unpacked(options.allowCredentials),
    },
  });
  const { authenticatorData, signature, userHandle } = key.response;
  return answer(key, {
    authenticatorData: b64(authenticatorData),
    signature: b64(signature),
    ...(userHandle ? { userHandle: b64(userHandle) } : {}),
  });
}

function answer(key, response) {
  const clientDataJSON = b64(key.response.clientDataJSON);
  return JSON.stringify({ id: key.id, type: key.type, response: { clientDataJSON, ...response } });
}

async function send(form) {
  const button = form.querySelector("button"), problem = form.querySelector(".problem");
  button.setAttribute("aria-disabled", "true");
  problem.textContent = "";
  try {
    const options = await begin(form);
    if (options === null) return;
    const isNew = form.dataset.passkey === "add";
    form.elements.credential.value = await (isNew ? made(options) : signed(options));
    form.submit();
  } catch (error) {
    // What browsers say themselves is for programmers; that somebody cancelled is no fault.
    problem.textContent = error instanceof DOMException
      ? (error.name === "InvalidStateError" ? "This device has a passkey here already." : "Nothing was done: the passkey was not given, or its user not verified.")
      : error.message;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

const isOf = (domain) => location.hostname === domain || location.hostname.endsWith(`.${domain}`);

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!globalThis.PublicKeyCredential || !isOf(form.elements.domain.value)) continue;
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!form.querySelector("button").hasAttribute("aria-disabled")) send(form);
  });
}
