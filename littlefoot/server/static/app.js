// The page: what is clicked and dropped, and what is shown.

import { Live, models, transcribe, useKey } from "./api.js";
import { at, disable, say, showListening, takeFiles } from "./controls.js";
import { clock, explain } from "./messages.js";
import { Microphone, wav } from "./microphone.js";
import { RATE } from "./resampler.js";
import { add, begin, clear, copy, download, duration, element, load, segments } from "./transcript.js";

let microphone = null;
let busy = false;
let cancel = null; // an AbortController while a file is recognised
let known = []; // the models of the server

// Models

async function showModels() {
  try {
    known = await models();
    const chosen = model() || known[0]?.id;
    at("model").replaceChildren(...known.map(({ id }) => Object.assign(element("option", "", id), { value: id })));
    at("model").value = chosen;
    showFigures();
    at("key-form").hidden = true;
    setBusy(busy);
  } catch (error) {
    fail(error);
  }
}

const model = () => at("model").value;
const facts = () => known.find(({ id }) => id === model())?.littlefoot;

function showFigures() {
  if (!facts()) return;
  const { bytes, x_realtime: speed, latency_ms: latency, streams, loaded } = facts();
  const seconds = `${(latency / 1000).toFixed(1)} s`;
  at("model-figures").replaceChildren(
    figure(`${(bytes / 1e6).toPrecision(3)} MB`, "size"),
    figure(speed === null ? "–" : `${Math.round(speed)} ×`, speed !== null ? "real time" : loaded ? "speed" : "not loaded yet"),
    figure(seconds, streams ? "live latency" : "live, simulated"),
  );
}

function figure(value, what) {
  const cell = element("span", "figure", value);
  cell.append(" ", element("small", "", what));
  return cell;
}

// Recordings

async function recognise(file) {
  if (busy) return;
  setBusy(true);
  begin(file);
  load(file);
  cancel = new AbortController();
  const began = performance.now();
  let text = "";
  say(`Sending ${file.name} …`);
  showWork(0);
  try {
    for await (const event of transcribe(file, model(), cancel.signal)) {
      if (event.type === "upload") {
        showWork(event.share);
        if (event.share === 1) {
          say(facts()?.loaded === false ? "Loading the model …" : `Recognising ${file.name} …`);
          showWork(null);
        }
      } else if (event.type === "transcript.text.delta") {
        text += event.delta;
        say(`Recognising ${file.name} …`);
        showWork(Number.isFinite(duration()) ? Math.min(1, event.seconds / duration()) : null);
        at("partial").textContent = text;
        at("empty").hidden = true;
      } else if (event.type === "transcript.text.done") {
        show(event, (performance.now() - began) / 1000);
      }
    }
  } catch (error) {
    if (error.code === "cancelled") say("Cancelled.");
    else fail(error);
    at("empty").hidden = segments.length > 0;
  }
  cancel = null;
  at("work").hidden = true;
  at("partial").textContent = "";
  setBusy(false);
  showModels();
}

function show(result, seconds) {
  at("partial").textContent = "";
  for (const segment of result.segments) {
    const inside = result.words.filter(({ start }) => start >= segment.start && start < segment.end);
    add({ ...segment, words: inside.map(({ word, ...rest }) => ({ text: word, ...rest })) });
  }
  at("figures").textContent =
    `${result.duration.toFixed(1)} s of audio in ${seconds.toFixed(2)} s, ` +
    `${(result.duration / seconds).toPrecision(2)} × real time, including the transfer`;
  say(result.text ? "Done." : "Done: there is no speech in it.");
}

// share: 0 to 1, or null while it is unknown
function showWork(share) {
  at("work").hidden = false;
  if (share === null) at("progress").removeAttribute("value");
  else at("progress").value = share;
}

// Microphone

async function speak() {
  if (microphone) {
    await stopSpeaking();
    return;
  }
  setBusy(true);
  begin(null);
  say("Opening the microphone …");
  const recorded = []; // blocks of PCM, for the player
  const sent = []; // [seconds of audio, when it was sent]
  let seconds = 0;
  let wait = null; // seconds from speech to text, known when the model is loaded
  const showState = () => {
    if (microphone && wait === null) say("Loading the model … You can speak already.");
    else if (microphone) say(`Listening. The text comes about ${wait.toFixed(1)} s after the speech.`);
  };
  const live = new Live(model(), {
    ready: ({ latency_ms: latency }) => {
      wait = latency / 1000;
      showState();
    },
    partial: ({ text, audio }) => {
      at("partial").textContent = text;
      if (text) at("empty").hidden = true;
      delay(sent, audio);
    },
    final: add,
    done: async ({ duration }) => {
      say(segments.length ? `Done: ${duration.toFixed(1)} s.` : "Done: there was no speech.");
      await closeMicrophone(); // the server may be the first to end
      load(wav(recorded));
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
      recorded.push(pcm);
      at("speak-hint").textContent = `recording ${clock(seconds)}`;
      live.send(pcm);
      at("level").value = Math.sqrt(peak);
    });
    microphone = { opened, live };
    if (live.over) await closeMicrophone();
    else showListening(true, "recording 0:00");
    showState();
  } catch (error) {
    live.over = true;
    live.socket.close();
    fail(error);
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

function setBusy(value) {
  busy = value;
  disable(at("file"), value);
  disable(at("speak"), value && !microphone);
  disable(at("model"), value || !known.length);
}

function fail(error) {
  say(explain(error), true);
  if (error.status === 401 || /_api_key$/.test(error.code)) {
    at("key-form").hidden = false;
    at("key").focus();
  }
}

at("speak").addEventListener("click", speak);
at("cancel").addEventListener("click", () => cancel?.abort());
at("model").addEventListener("change", showFigures);
at("copy").addEventListener("click", () => copy().then(() => say("Copied."), fail));
for (const format of ["text", "srt", "vtt"]) {
  at(format).addEventListener("click", () => download(format).catch(fail));
}
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

takeFiles(recognise);

showModels();
