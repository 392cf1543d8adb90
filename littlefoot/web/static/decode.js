// Files as samples: the browser decodes, to 16 kHz.

import { RATE } from "./resampler.js";

// file: File -> Float32Array, the mean of its channels.
export async function decode(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const content = await file.arrayBuffer();
  if (content.byteLength === 0) throw new Error(`${file.name} is empty: choose another file.`);
  let decoded;
  try {
    decoded = await context.decodeAudioData(content);
  } catch {
    throw new Error(
      `${file.name} is not audio that this browser can decode: convert it to wav, mp3 or m4a, or try another browser.`,
    );
  }
  const samples = decoded.getChannelData(0).slice();
  for (let channel = 1; channel < decoded.numberOfChannels; channel++) {
    const other = decoded.getChannelData(channel);
    for (let at = 0; at < samples.length; at++) samples[at] += other[at];
  }
  if (decoded.numberOfChannels > 1) {
    for (let at = 0; at < samples.length; at++) samples[at] /= decoded.numberOfChannels;
  }
  return samples;
}
