// The worker that recognises, so that the page never waits. It takes messages and answers with messages:
//
//     {type: "open", wasm, model}     addresses        -> ready, or failed
//     {type: "file", samples}         a whole recording -> update ..., done
//     {type: "begin"}, {type: "feed", samples}, {type: "finish"}   live -> update ..., done
//
// Samples are Float32Array, 16 kHz.

import { Engine } from "./engine.js";

const RATE = 16000;

let model = null;
let stream = null;
let seconds = 0; // of the stream
let busy = 0; // milliseconds of computing

const actions = { open, file, begin, feed, finish };

// One after another: `open` waits for the network.
let queue = Promise.resolve();
self.onmessage = ({ data }) => {
  queue = queue.then(() => actions[data.type](data)).catch(failed);
};

function failed(error) {
  stream?.close();
  stream = null;
  self.postMessage({ type: "failed", message: error.message, code: error.code ?? null });
}

async function open({ wasm, model: address }) {
  const [program, file] = await Promise.all([fetched(wasm), fetched(address)]);
  const engine = await Engine.start(program);
  model = engine.open(new Uint8Array(file));
  self.postMessage({
    type: "ready",
    description: model.description,
    streaming: model.streaming,
    bytes: { wasm: program.byteLength, model: file.byteLength },
  });
}

async function fetched(address) {
  const name = address.split("/").pop();
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error(
      `${name} cannot be fetched: connect to the network and load the page again. Once it was loaded, it works without.`,
    );
  }
  if (!response.ok) {
    throw new Error(`${name} is not there (status ${response.status}): put the whole folder on the server again.`);
  }
  return response.arrayBuffer();
}

// A streaming model gives the same text piece by piece, and shows how far it is.
function file({ samples }) {
  if (!model.streaming) {
    const began = performance.now();
    const { words, text } = model.transcribe(samples);
    self.postMessage({
      type: "done",
      words,
      text,
      seconds: samples.length / RATE,
      milliseconds: performance.now() - began,
    });
    return;
  }
  begin();
  for (let at = 0; at < samples.length; at += RATE) feed({ samples: samples.subarray(at, at + RATE) });
  finish();
}

function begin() {
  stream?.close();
  stream = null;
  seconds = busy = 0;
  stream = model.stream();
  self.postMessage({ type: "listening", latency: stream.latency });
}

function feed({ samples }) {
  if (!stream) return; // it failed before
  seconds += samples.length / RATE;
  update("update", () => stream.feed(samples));
}

function finish() {
  if (!stream) return;
  update("done", () => stream.finish());
  stream.close();
  stream = null;
}

function update(type, call) {
  const began = performance.now();
  const { partial, segments } = call();
  busy += performance.now() - began;
  self.postMessage({ type, partial, segments, seconds, milliseconds: busy });
}
