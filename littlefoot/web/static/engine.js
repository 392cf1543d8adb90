// liblittlefoot in WebAssembly: native/include/littlefoot.h for JavaScript. Runs in workers and in Node.

// Bytes of the header's structures; native/src/web.cpp verifies the places of their members.
const ERROR = 260;
const WORD = 32;
const SEGMENT = 32;
const UPDATE = 20;
const FLOAT = 4;

// All that the library asks of a system.
const IMPORTS = {
  env: { emscripten_notify_memory_growth() {} },
  wasi_snapshot_preview1: {
    proc_exit(code) {
      throw new Error(`the library ended with code ${code}`);
    },
  },
};

const text = new TextDecoder();

// An error of the library: a code of the header, and a sentence.
export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.name = "Refused";
    this.code = code;
  }
}

export class Engine {
  // wasm: the bytes of the file that program.js names.
  static async start(wasm) {
    const engine = new Engine();
    const { instance } = await WebAssembly.instantiate(wasm, IMPORTS);
    engine.c = instance.exports;
    engine.c._initialize();
    return engine;
  }

  get version() {
    return this.string(this.c.lf_version());
  }

  // file: Uint8Array of a model file. Throws Refused, as all functions below.
  open(file) {
    const data = this.allocate(file.length);
    try {
      new Uint8Array(this.c.memory.buffer, data, file.length).set(file);
      return new Model(
        this,
        this.made((out, error) => this.c.lf_open_memory(data, file.length, 0, 1, out, error)),
      );
    } finally {
      this.c.free(data);
    }
  }

  // Runs call(out, error), which writes a pointer to `out`.
  made(call) {
    const out = this.allocate(4);
    try {
      this.checked((error) => call(out, error));
      return this.view().getUint32(out, true);
    } finally {
      this.c.free(out);
    }
  }

  checked(call) {
    const error = this.allocate(ERROR);
    try {
      const code = call(error);
      if (code !== 0) throw new Refused(code, this.string(error + 4));
    } finally {
      this.c.free(error);
    }
  }

  withSamples(samples, call) {
    const at = this.allocate(samples.length * FLOAT);
    try {
      new Float32Array(this.c.memory.buffer, at, samples.length).set(samples);
      return call(at);
    } finally {
      this.c.free(at);
    }
  }

  allocate(bytes) {
    const at = this.c.malloc(bytes + 1); // never 0 bytes
    if (at === 0) throw new Refused(7, "there is not enough memory");
    return at >>> 0;
  }

  // Of the memory as it is now: it moves when it grows.
  view() {
    return new DataView(this.c.memory.buffer);
  }

  string(at) {
    const bytes = new Uint8Array(this.c.memory.buffer, at);
    return text.decode(bytes.slice(0, bytes.indexOf(0)));
  }

  words(at, count) {
    const view = this.view();
    return Array.from({ length: count }, (_, index) => {
      const word = at + index * WORD;
      return {
        text: this.string(view.getUint32(word, true)),
        start: view.getFloat64(word + 8, true),
        end: view.getFloat64(word + 16, true),
        confidence: view.getFloat64(word + 24, true),
      };
    });
  }
}

// A model. `description`: what littlefoot-run --info prints, as an object.
export class Model {
  constructor(engine, pointer) {
    this.engine = engine;
    this.pointer = pointer;
    this.description = JSON.parse(engine.string(engine.c.lf_description(pointer)));
    this.streaming = engine.c.lf_is_streaming(pointer) === 1;
  }

  // samples: Float32Array, 16 kHz -> {text, words: [{text, start, end, confidence}]}, seconds.
  transcribe(samples) {
    const { engine, pointer } = this;
    const result = engine.withSamples(samples, (at) =>
      engine.made((out, error) => engine.c.lf_transcribe(pointer, at, samples.length, out, error)),
    );
    const count = engine.allocate(4);
    try {
      const words = engine.c.lf_words(result, count);
      return {
        text: engine.string(engine.c.lf_text(result)),
        words: engine.words(words, engine.view().getUint32(count, true)),
      };
    } finally {
      engine.c.free(count);
      engine.c.lf_free(result);
    }
  }

  stream() {
    const { engine, pointer } = this;
    return new Stream(engine, engine.made((out, error) => engine.c.lf_stream_open(pointer, 0, out, error)));
  }

  close() {
    this.engine.c.lf_close(this.pointer);
  }
}

// A live recording. Each call gives {partial, segments: [{text, start, end, words}]}, seconds.
export class Stream {
  constructor(engine, pointer) {
    this.engine = engine;
    this.pointer = pointer;
    this.latency = engine.c.lf_stream_latency(pointer); // seconds
  }

  feed(samples) {
    const { engine, pointer } = this;
    return engine.withSamples(samples, (at) =>
      this.updated((update, error) => engine.c.lf_stream_feed(pointer, at, samples.length, update, error)),
    );
  }

  finish() {
    return this.updated((update, error) => this.engine.c.lf_stream_finish(this.pointer, update, error));
  }

  close() {
    this.engine.c.lf_stream_close(this.pointer);
  }

  updated(call) {
    const { engine } = this;
    const update = engine.allocate(UPDATE);
    try {
      engine.checked((error) => call(update, error));
      const view = engine.view();
      const first = view.getUint32(update + 4, true);
      const segments = Array.from({ length: view.getUint32(update + 8, true) }, (_, index) => {
        const segment = first + index * SEGMENT;
        return {
          text: engine.string(view.getUint32(segment, true)),
          start: view.getFloat64(segment + 8, true),
          end: view.getFloat64(segment + 16, true),
          words: engine.words(view.getUint32(segment + 24, true), view.getUint32(segment + 28, true)),
        };
      });
      return { partial: engine.string(view.getUint32(update, true)), segments };
    } finally {
      engine.c.free(update);
    }
  }
}
