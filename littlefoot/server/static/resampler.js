// From any sampling rate to 16 kHz: a windowed sinc for each phase (J. O. Smith, "Digital Audio Resampling").

export const RATE = 16000;
const ZEROS = 16; // zero crossings of the sinc on each side

export class Resampler {
  // from: whole samples per second.
  constructor(from) {
    const common = divisor(from, RATE);
    this.step = from / common; // inputs for `phases` outputs
    this.phases = RATE / common;
    const cutoff = 0.94 * Math.min(1, RATE / from);
    this.half = Math.ceil(ZEROS / cutoff);
    this.kernels = Array.from({ length: this.phases }, (_, phase) => kernel(phase / this.phases, cutoff, this.half));
    this.held = new Float32Array(this.half - 1); // silence before the beginning
    this.phase = 0;
  }

  // samples (N,) -> about N * 16000 / from samples; what is left waits for the next call.
  feed(samples) {
    const held = new Float32Array(this.held.length + samples.length);
    held.set(this.held);
    held.set(samples, this.held.length);
    const output = [];
    let position = 0;
    while (position + 2 * this.half <= held.length) {
      const taps = this.kernels[this.phase];
      let sum = 0;
      for (let tap = 0; tap < taps.length; tap++) sum += taps[tap] * held[position + tap];
      output.push(sum);
      this.phase += this.step;
      position += Math.floor(this.phase / this.phases);
      this.phase %= this.phases;
    }
    this.held = held.slice(position);
    return Float32Array.from(output);
  }
}

// Taps for an output that lies `fraction` of an input sample after the tap half - 1; their sum is 1.
function kernel(fraction, cutoff, half) {
  const taps = Float64Array.from({ length: 2 * half }, (_, tap) => {
    const distance = tap - (half - 1) - fraction;
    const x = Math.PI * distance * cutoff;
    const window = Math.cos((Math.PI * distance) / (2 * half)) ** 2; // Hann
    return (Math.abs(x) < 1e-9 ? 1 : Math.sin(x) / x) * window;
  });
  const sum = taps.reduce((total, tap) => total + tap, 0);
  return taps.map((tap) => tap / sum);
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}
