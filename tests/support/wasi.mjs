// A program in WebAssembly under Node: node wasi.mjs PROGRAM.wasm ARGUMENTS...

import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1", args: process.argv.slice(2), returnOnExit: true });
const imports = { ...wasi.getImportObject(), env: { emscripten_notify_memory_growth() {} } };
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), imports);
process.exitCode = wasi.start(instance);
