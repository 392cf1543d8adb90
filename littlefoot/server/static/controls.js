// The controls that the server's page and the page of one model share.

export const at = (id) => document.getElementById(id);

// The browser takes the focus from what is disabled: it gets it back.
let focused = null;
export function disable(element, value) {
  if (value && element === document.activeElement) focused = element;
  element.disabled = value;
  if (!value && element === focused && document.activeElement === document.body) element.focus();
}

export function say(text, problem = false) {
  at("status").textContent = text;
  at("status").classList.toggle("problem", problem);
}

export function showListening(listening, hint) {
  at("speak").setAttribute("aria-pressed", listening);
  at("speak-label").textContent = listening ? "Stop" : "Speak";
  at("speak-hint").textContent = listening ? hint : "into the microphone";
  at("level").hidden = !listening;
  disable(at("speak"), false);
}

// Calls take(file) for each file that is chosen or dropped.
export function takeFiles(take) {
  at("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    if (file) take(file);
    target.value = ""; // so that the same file can be chosen again
  });
  let inside = 0; // elements that a dragged file is over
  document.addEventListener("dragenter", () => at("drop").classList.toggle("over", ++inside > 0));
  document.addEventListener("dragleave", () => at("drop").classList.toggle("over", --inside > 0));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    at("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
}
