// What the page needs of the browser. No module, so that it runs where modules do not.
"use strict";

// The smallest module with an instruction of 128-bit vectors: () -> i8x16.popcnt(i8x16.splat(0)).
var VECTORS = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

function problem() {
  if (location.protocol === "file:") {
    return "Browsers do not start this page from a file. Serve its folder, such as with: python -m http.server";
  }
  if (!("WebAssembly" in window) || !WebAssembly.validate(new Uint8Array(VECTORS))) {
    return "This browser is too old: it has no WebAssembly with vectors (SIMD). Update it, or use Chrome 91, Firefox 89, Safari 16.4 or newer.";
  }
  return "";
}

window.problem = problem();
if (window.problem) {
  document.getElementById("status").textContent = window.problem;
  document.getElementById("status").className = "problem";
}
