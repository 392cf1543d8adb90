// In the audio thread: blocks of 100 ms of 16-bit PCM at 16 kHz, and how loud they are.

import { RATE, Resampler } from "./resampler.js";

const BLOCK = RATE / 10;

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(Math.round(sampleRate));
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.peak = 0;
    this.going = true;
    this.port.onmessage = () => {
      this.send();
      this.going = false;
    };
  }

  process([channels]) {
    if (channels.length) {
      for (const sample of this.resampler.feed(mono(channels))) {
        this.peak = Math.max(this.peak, Math.abs(sample));
        this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(32768 * sample)));
        if (this.filled === BLOCK) this.send();
      }
    }
    return this.going;
  }

  send() {
    const pcm = this.block.slice(0, this.filled);
    this.port.postMessage({ pcm, peak: this.peak }, [pcm.buffer]);
    this.filled = 0;
    this.peak = 0;
  }
}

function mono(channels) {
  if (channels.length === 1) return channels[0];
  return channels[0].map((_, index) => channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length);
}

registerProcessor("recorder", Recorder);
