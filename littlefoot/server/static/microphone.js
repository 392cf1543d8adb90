// The microphone as PCM at 16 kHz.

import { RATE } from "./resampler.js";

const ADVICE = {
  NotAllowedError: "The microphone was not allowed: allow it in the browser's address bar, and press Speak again.",
  NotFoundError: "There is no microphone: connect one, and press Speak again.",
  NotReadableError: "Another program uses the microphone: end it, and press Speak again.",
};
ADVICE.OverconstrainedError = ADVICE.NotFoundError; // of WebKit

const SILENT = 5000; // ms after which a browser without any loudspeaker does not start its sound any more

// A WAV file of blocks of PCM.
export function wav(blocks) {
  const bytes = 2 * blocks.reduce((sum, block) => sum + block.length, 0);
  const header = new DataView(new ArrayBuffer(44));
  const text = (offset, value) => [...value].forEach((letter, i) => header.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, RATE, true);
  header.setUint32(28, 2 * RATE, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...blocks], { type: "audio/wav" });
}

export class Microphone {
  // onBlock(Int16Array, peak 0..1): called every 100 ms. Errors say what to do.
  static async open(onBlock) {
    if (!navigator.mediaDevices) {
      throw new Error("The browser gives the microphone to pages of https or localhost only.");
    }
    const media = await navigator.mediaDevices
      .getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true },
      })
      .catch((error) => {
        throw new Error(ADVICE[error.name] ?? `The microphone cannot be opened: ${error.message || error.name}`);
      });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
      const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
      recorder.port.onmessage = ({ data }) => onBlock(data.pcm, data.peak);
      context.createMediaStreamSource(media).connect(recorder);
      await started(context);
      return new Microphone(media, context, recorder);
    } catch (error) {
      media.getTracks().forEach((track) => track.stop());
      context.close();
      throw error;
    }
  }

  constructor(media, context, recorder) {
    Object.assign(this, { media, context, recorder });
  }

  // Gives out the last block, shorter than the others, before the promise is kept.
  async close() {
    const last = new Promise((resolve) => {
      const given = this.recorder.port.onmessage;
      this.recorder.port.onmessage = (event) => {
        given(event);
        if (event.data.pcm.length < 1600) resolve();
      };
      setTimeout(resolve, 500);
    });
    this.recorder.port.postMessage("stop");
    await last;
    this.media.getTracks().forEach((track) => track.stop());
    await this.context.close();
  }
}

function started(context) {
  return new Promise((resolve, reject) => {
    context.resume().then(resolve, reject);
    const error = new Error("The browser did not start its sound: connect loudspeakers, and press Speak again.");
    setTimeout(() => reject(error), SILENT);
  });
}
