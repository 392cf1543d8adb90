// The library in WebAssembly under Node, for tests: prints one line of JSON for each request line of standard input.
//
//     node recognise.mjs ENGINE.js PROGRAM.wasm
//
// Requests: {"model": file} opens a model; {"samples": file of float32, "stream": samples at once, or 0} recognises.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [script, wasm] = process.argv.slice(2);
// Node takes a .js file for CommonJS: the text of the module goes into an address.
const source = Buffer.from(readFileSync(script)).toString("base64");
const { Engine } = await import(`data:text/javascript;base64,${source}`);
const engine = await Engine.start(readFileSync(wasm));
let model = null;

const floats = (file) => {
  const bytes = readFileSync(file);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
};

function open(file) {
  model?.close();
  model = null;
  model = engine.open(readFileSync(file));
  return { description: model.description, streaming: model.streaming, version: engine.version };
}

function recognise(samples, size) {
  const began = performance.now();
  if (!size) return { ...model.transcribe(samples), milliseconds: performance.now() - began };
  const stream = model.stream();
  const updates = [];
  for (let at = 0; at < samples.length; at += size) updates.push(stream.feed(samples.subarray(at, at + size)));
  updates.push(stream.finish());
  const { latency } = stream;
  stream.close();
  return {
    latency,
    partials: updates.map(({ partial }) => partial),
    segments: updates.flatMap(({ segments }) => segments),
    milliseconds: performance.now() - began,
    memory: engine.c.memory.buffer.byteLength,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    const answer = request.model ? open(request.model) : recognise(floats(request.samples), request.stream);
    console.log(JSON.stringify(answer));
  } catch (error) {
    console.log(JSON.stringify({ error: error.message, code: error.code ?? null, name: error.name }));
  }
}
