// The page: what is clicked and dropped, and what is shown.

import { Live, models, srt, transcribe, useKey } from "./api.js";
import { Microphone } from "./microphone.js";
import { RATE } from "./resampler.js";

const at = (id) => document.getElementById(id);
const segments = []; // {start, end, text, words}, seconds
let microphone = null;
let name = "littlefoot"; // of the file to download
let busy = false;

// Models

async function showModels() {
  try {
    const list = await models();
    const chosen = model() ?? list[0]?.id;
    const focus = at("models").contains(document.activeElement);
    at("models").replaceChildren(
      at("models").querySelector("legend"),
      ...list.map((each) => card(each, each.id === chosen)),
    );
    if (focus) document.querySelector("[name=model]:checked").focus();
    at("key-form").hidden = true;
    setBusy(busy);
  } catch (error) {
    fail(error);
  }
}

const model = () => document.querySelector("[name=model]:checked")?.value;

function card({ id, littlefoot: { bytes, x_realtime: speed, latency_ms: latency, streams } }, checked) {
  const label = element("label", "model");
  const input = element("input");
  Object.assign(input, { type: "radio", name: "model", value: id, checked });
  label.append(
    input,
    element("span", "name", id),
    figure(`${(bytes / 1e6).toPrecision(3)} MB`, "size"),
    figure(speed === null ? "–" : `${Math.round(speed)} ×`, speed === null ? "not loaded yet" : "real time"),
    figure(`${(latency / 1000).toFixed(1)} s`, streams ? "live latency" : "live, simulated"),
  );
  return label;
}

function figure(value, what) {
  const cell = element("span", "figure", value);
  cell.append(element("small", "", what));
  return cell;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

// Recordings

async function recognise(file) {
  if (busy) return;
  setBusy(true);
  clear();
  name = file.name.replace(/\.[^.]*$/, "") || "littlefoot";
  say(`Recognising ${file.name} …`);
  const began = performance.now();
  let text = "";
  try {
    for await (const event of transcribe(file, model())) {
      if (event.type === "transcript.text.delta") {
        text += event.delta;
        at("partial").textContent = text;
        at("empty").hidden = true;
      } else if (event.type === "transcript.text.done") {
        at("partial").textContent = "";
        for (const segment of event.segments) {
          const inside = event.words.filter(({ start }) => start >= segment.start && start < segment.end);
          const words = inside.map(({ word, start, end }) => ({ text: word, start, end }));
          addSegment({ ...segment, words });
        }
        const seconds = (performance.now() - began) / 1000;
        const speed = event.duration / seconds;
        at("figures").textContent =
          `${event.duration.toFixed(1)} s of audio in ${seconds.toFixed(2)} s, ` +
          `${speed.toPrecision(2)} × real time, the network included`;
        say(event.text ? "Done." : "Done: nothing was said.");
      }
    }
  } catch (error) {
    fail(error);
  }
  at("partial").textContent = "";
  setBusy(false);
  showModels();
}

// Microphone

async function speak() {
  if (microphone) {
    await stopSpeaking();
    return;
  }
  setBusy(true);
  clear();
  name = "littlefoot";
  say("Opening the microphone …");
  const sent = []; // [seconds of audio, when it was sent]
  let seconds = 0;
  const live = new Live(model(), {
    ready: ({ latency_ms: latency }) =>
      say(`Listening. Words come about ${(latency / 1000).toFixed(1)} s after they are said.`),
    partial: ({ text, audio }) => {
      at("partial").textContent = text;
      if (text) at("empty").hidden = true;
      delay(sent, audio);
    },
    final: addSegment,
    done: async ({ duration }) => {
      say(segments.length ? `Done: ${duration.toFixed(1)} s.` : "Done: nothing was heard.");
      await closeMicrophone(); // the server may be the first to end
      ended();
    },
    failed: async (error) => {
      await closeMicrophone();
      fail(error);
      ended();
    },
  });
  try {
    const opened = await Microphone.open((pcm, peak) => {
      seconds += pcm.length / RATE;
      sent.push([seconds, performance.now()]);
      live.send(pcm);
      at("level").value = Math.sqrt(peak);
    });
    microphone = { opened, live };
    if (live.over) await closeMicrophone();
    else showListening(true);
  } catch (error) {
    live.over = true;
    live.socket.close();
    fail(error.name === "NotAllowedError" ? new Error("The microphone was not allowed.") : error);
    ended();
  }
}

async function stopSpeaking() {
  const { live } = microphone;
  say("Finishing …");
  await closeMicrophone();
  live.stop();
}

async function closeMicrophone() {
  const open = microphone;
  microphone = null;
  showListening(false);
  disable(at("speak"), true);
  await open?.opened.close();
}

function ended() {
  at("partial").textContent = "";
  setBusy(false);
  showModels();
}

function delay(sent, audio) {
  while (sent.length && sent[0][0] < audio - 0.001) sent.shift();
  if (!sent.length) return;
  const milliseconds = performance.now() - sent[0][1];
  at("figures").textContent = `${audio.toFixed(1)} s of audio; the server answers after ${milliseconds.toFixed(0)} ms`;
}

function showListening(listening) {
  at("speak").setAttribute("aria-pressed", listening);
  at("speak-label").textContent = listening ? "Stop" : "Speak";
  at("speak-hint").textContent = listening ? "listening" : "into the microphone";
  at("level").hidden = !listening;
  disable(at("speak"), false);
}

// Transcript

function addSegment({ start, end, text, words }) {
  segments.push({ start, end, text, words: words ?? [] });
  const item = element("li");
  const whole = Math.floor(start);
  const time = element("time", "", `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`);
  item.append(time, element("span", "", text));
  at("segments").append(item);
  at("empty").hidden = true;
  for (const id of ["copy", "srt", "clear"]) at(id).disabled = false;
}

function clear() {
  segments.length = 0;
  at("segments").replaceChildren();
  at("partial").textContent = "";
  at("figures").textContent = "";
  at("empty").hidden = false;
  for (const id of ["copy", "srt", "clear"]) at(id).disabled = true;
}

async function download() {
  let content;
  try {
    content = await srt(segments);
  } catch (error) {
    say(error.message);
    return;
  }
  const url = URL.createObjectURL(new Blob([content], { type: "application/x-subrip" }));
  const link = element("a");
  Object.assign(link, { href: url, download: `${name}.srt` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

async function copy() {
  await navigator.clipboard.writeText(segments.map((segment) => segment.text).join("\n"));
  say("Copied.");
}

function setBusy(value) {
  busy = value;
  disable(at("file"), value);
  disable(at("speak"), value && !microphone);
  document.querySelectorAll("[name=model]").forEach((input) => (input.disabled = value));
}

// The browser takes the focus from what is disabled: it gets it back.
let focused = null;
function disable(element, value) {
  if (value && element === document.activeElement) focused = element;
  element.disabled = value;
  if (!value && element === focused && document.activeElement === document.body) element.focus();
}

function say(text) {
  at("status").textContent = text;
  at("status").classList.remove("problem");
}

function fail(error) {
  say(error.message);
  at("status").classList.add("problem");
  if (error.status === 401 || /_api_key$/.test(error.status)) {
    at("key-form").hidden = false;
    at("key").focus();
  }
}

at("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) recognise(file);
  target.value = ""; // so that the same file can be chosen again
});
at("speak").addEventListener("click", speak);
at("copy").addEventListener("click", () => copy().catch(fail));
at("srt").addEventListener("click", download);
at("clear").addEventListener("click", () => {
  clear();
  say("");
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  say("");
  showModels();
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
  if (file) recognise(file);
});

showModels();
