// The transcript: segments with words, the player that they steer, and the files to download.

import { subtitles } from "./api.js";
import { clock } from "./messages.js";

const at = (id) => document.getElementById(id);
const BUTTONS = ["copy", "text", "srt", "vtt", "clear"];
const DOUBTFUL = 0.8; // below this confidence a word is marked
const WRONG = 0.5; // below this one more strongly

export const segments = []; // {start, end, text, words: [{text, start, end, confidence}]}, seconds
let name = "littlefoot"; // of the files to download
let playing = null; // the word that is marked while it is played

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

export function begin(file) {
  clear();
  name = file?.name.replace(/\.[^.]*$/, "") || "littlefoot";
}

export function add({ start, end, text, words = [] }) {
  segments.push({ start, end, text, words });
  const item = element("li");
  const time = element("button", "time", clock(start));
  time.type = "button";
  time.setAttribute("aria-label", `Play from ${clock(start)}`);
  time.addEventListener("click", () => seek(start));
  item.append(time, line(text, words));
  at("segments").append(item);
  at("empty").hidden = true;
  at("legend").hidden &&= words.length === 0;
  for (const id of BUTTONS) at(id).disabled = false;
}

// The text with an element for each word that stands in it.
function line(text, words) {
  const made = element("span", "line");
  let done = 0;
  for (const word of words) {
    const found = text.indexOf(word.text, done);
    if (found < 0) continue;
    made.append(text.slice(done, found), marked(word));
    done = found + word.text.length;
  }
  made.append(text.slice(done));
  return made;
}

function marked({ text, start, end, confidence }) {
  const made = element("span", "word", text);
  if (confidence < DOUBTFUL) made.classList.add(confidence < WRONG ? "wrong" : "doubtful");
  Object.assign(made.dataset, { start, end });
  made.title = `${clock(start)}, confidence ${Math.round(100 * confidence)} %`;
  made.addEventListener("click", () => seek(start));
  return made;
}

export function clear() {
  segments.length = 0;
  at("segments").replaceChildren();
  at("partial").textContent = "";
  at("figures").textContent = "";
  at("empty").hidden = false;
  at("legend").hidden = true;
  load(null);
  for (const id of BUTTONS) at(id).disabled = true;
}

// Player

// A Blob to play, or null for none.
export function load(blob) {
  const player = at("player");
  if (player.src) URL.revokeObjectURL(player.src);
  player.hidden = true;
  if (blob) player.src = URL.createObjectURL(blob);
  else player.removeAttribute("src");
}

// Seconds of the recording in the player; NaN if the browser cannot play it.
export const duration = () => at("player").duration;

function seek(seconds) {
  const player = at("player");
  if (player.hidden) return;
  player.currentTime = seconds;
  player.play();
}

function follow() {
  const now = at("player").currentTime;
  const words = [...document.querySelectorAll(".word[data-start]")];
  const word = words.find(({ dataset }) => now >= dataset.start && now < dataset.end) ?? null;
  if (word === playing) return;
  playing?.classList.remove("playing");
  word?.classList.add("playing");
  playing = word;
}

// Files

const plain = () => segments.map((segment) => segment.text).join("\n");

export const copy = () => navigator.clipboard.writeText(plain());

// format: text, srt or vtt
export async function download(format) {
  const content = format === "text" ? `${plain()}\n` : await subtitles(segments, format);
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  const link = element("a");
  Object.assign(link, { href: url, download: `${name}.${format === "text" ? "txt" : format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

at("player").addEventListener("loadedmetadata", ({ target }) => (target.hidden = false));
at("player").addEventListener("timeupdate", follow);
