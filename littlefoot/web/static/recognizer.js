// The worker as the page uses it.

import { PROGRAM } from "./program.js";

export class Recognizer {
  // handle: {ready, listening, update, done, failed}, functions of the worker's answers.
  constructor(handle) {
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => handle[data.type](data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      handle.failed({ message: event.message || "The worker cannot be started: load the page again." });
    };
    const address = (name) => new URL(name, import.meta.url).href;
    this.worker.postMessage({ type: "open", wasm: address(PROGRAM), model: address("model.lf") });
  }

  file(samples) {
    this.worker.postMessage({ type: "file", samples }, [samples.buffer]);
  }

  begin() {
    this.worker.postMessage({ type: "begin" });
  }

  feed(samples) {
    this.worker.postMessage({ type: "feed", samples }, [samples.buffer]);
  }

  finish() {
    this.worker.postMessage({ type: "finish" });
  }
}
