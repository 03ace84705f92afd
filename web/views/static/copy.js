// A button that copies what stands beside it: a program, a command, the id of a request.
//
// A `button.copy` stands in one element with the `code` it copies.
// Rule: it never builds markup; texts are set as textContent only.

// Long enough to be read, short enough to be out of the way of the next click.
const TOLD_MS = 2000;

const told = new WeakMap();

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  let word = "Copied";
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // No permission, or no secure page: the text is selected, so that the keyboard can copy it.
    getSelection().selectAllChildren(code);
    word = "Selected";
  }
  clearTimeout(told.get(button));
  button.textContent = word;
  told.set(button, setTimeout(() => (button.textContent = "Copy"), TOLD_MS));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button);
});
