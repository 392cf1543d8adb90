// The library's file for this browser: littlefoot.wasm, or the faster one for browsers with relaxed vectors.

// The smallest module with one of them: () -> i32x4.relaxed_dot_i8x16_i7x16_add_s of three i8x16.splat(0).
const RELAXED = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0],
  ...[65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253, 147, 2, 11],
];

export const PROGRAM = WebAssembly.validate(new Uint8Array(RELAXED)) ? "littlefoot-relaxed.wasm" : "littlefoot.wasm";
