// The page: what is clicked and dropped, and what is shown.

import { at, disable, say, showListening, takeFiles } from "./controls.js";
import { decode } from "./decode.js";
import { Microphone } from "./microphone.js";
import { Recognizer } from "./recognizer.js";
import { RATE } from "./resampler.js";
import { segmentsOf, srt } from "./transcript.js";

const SLOW = 3; // seconds that recognition may stay behind the microphone before the page tells

const segments = []; // {start, end, text, words}, seconds
let microphone = null;
let name = "littlefoot"; // of the file to download
let sent = 0; // seconds of the microphone

// The worker's answers

const recognizer = window.problem
  ? null
  : new Recognizer({
      ready({ description, streaming, bytes }) {
        const part = (text, tag = "span") => Object.assign(document.createElement(tag), { textContent: text });
        at("about").replaceChildren(
          part(description.name, "strong"),
          part(`${((bytes.model + bytes.wasm) / 1e6).toFixed(1)} MB`),
          part(streaming ? `live, ${(description.latency_ms / 1000).toFixed(1)} s behind` : "live by windows of 8 s"),
          ...(description.licence ? [part(`licence ${description.licence}`)] : []),
        );
        at("about").hidden = false;
        setBusy(false);
        say("Ready.");
        keepOffline();
      },
      listening({ latency }) {
        if (microphone) say(`Listening. Words come about ${latency.toFixed(1)} s after they are said.`);
      },
      update(answer) {
        show(answer);
        if (microphone && sent - answer.seconds > SLOW) {
          say(`This device is too slow for the model: it is ${Math.round(sent - answer.seconds)} s behind.`);
        }
      },
      done(answer) {
        show(answer);
        say(segments.length ? "Done." : "Done: nothing was said.");
        setBusy(false);
      },
      async failed({ message, code }) {
        await closeMicrophone();
        at("partial").textContent = "";
        setBusy(at("about").hidden); // without a model nothing can be done
        // the library's sentences begin with a small letter, the names of files stay as they are
        fail(new Error(code ? message[0].toUpperCase() + message.slice(1) : message));
      },
    });

function show({ partial = "", segments: ended, words, text, seconds, milliseconds }) {
  for (const segment of ended ?? wholeOf(words, text)) addSegment(segment);
  at("partial").textContent = partial;
  if (partial) at("empty").hidden = true;
  const speed = (1000 * seconds) / Math.max(1, milliseconds);
  at("figures").textContent =
    `${seconds.toFixed(1)} s of audio in ${(milliseconds / 1000).toFixed(2)} s, ${speed.toFixed(speed < 10 ? 1 : 0)} × real time`;
}

// The words of a recording by their pauses, unless a writing without spaces joins them otherwise.
function wholeOf(words, text) {
  const found = segmentsOf(words);
  const same = found.map((segment) => segment.text).join(" ") === text;
  return same || !words.length ? found : [{ text, start: words[0].start, end: words.at(-1).end, words }];
}

// Recordings

async function recognise(file) {
  if (at("file").disabled) return;
  setBusy(true);
  clear();
  name = file.name.replace(/\.[^.]*$/, "") || "littlefoot";
  say(`Reading ${file.name} …`);
  try {
    const samples = await decode(file);
    say(`Recognising ${file.name}, ${(samples.length / RATE).toFixed(0)} s …`);
    recognizer.file(samples);
  } catch (error) {
    setBusy(false);
    fail(error);
  }
}

// Microphone

async function speak() {
  if (microphone) {
    say("Finishing …");
    await closeMicrophone();
    recognizer.finish();
    return;
  }
  setBusy(true);
  clear();
  name = "littlefoot";
  sent = 0;
  say("Opening the microphone …");
  try {
    microphone = await Microphone.open((pcm, peak) => {
      if (sent === 0) recognizer.begin();
      sent += pcm.length / RATE;
      recognizer.feed(Float32Array.from(pcm, (sample) => sample / 32768));
      at("level").value = Math.sqrt(peak);
    });
  } catch (error) {
    setBusy(false);
    fail(error);
    return;
  }
  showListening(true, "listening");
}

async function closeMicrophone() {
  const open = microphone;
  if (!open) return;
  await open.close(); // which gives out the last block
  microphone = null;
  showListening(false);
  disable(at("speak"), true);
}

// Transcript

function addSegment(segment) {
  segments.push(segment);
  const whole = Math.floor(segment.start);
  const item = document.createElement("li");
  item.append(
    Object.assign(document.createElement("time"), {
      textContent: `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`,
    }),
    Object.assign(document.createElement("span"), { className: "line", textContent: segment.text }),
  );
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

async function copy() {
  await navigator.clipboard.writeText(segments.map((segment) => segment.text).join("\n"));
  say("Copied.");
}

function download() {
  const url = URL.createObjectURL(new Blob([srt(segments)], { type: "application/x-subrip" }));
  Object.assign(document.createElement("a"), { href: url, download: `${name}.srt` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function setBusy(busy) {
  disable(at("file"), busy);
  disable(at("speak"), busy);
}

function fail(error) {
  say(error.message, true);
}

// The service worker keeps the page's files, where the browser has them: https and localhost only.
async function keepOffline() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    if (at("status").textContent === "Ready.") say("Ready, also without a network.");
  } catch (error) {
    if (at("status").textContent === "Ready.") say(`Ready, but only with a network: ${error.message}`);
  }
}

at("speak").addEventListener("click", speak);
at("copy").addEventListener("click", () => copy().catch(fail));
at("srt").addEventListener("click", download);
at("clear").addEventListener("click", () => {
  clear();
  say("");
});

takeFiles(recognise);
