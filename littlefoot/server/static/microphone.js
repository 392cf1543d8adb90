// The microphone as PCM at 16 kHz.

export class Microphone {
  // onBlock(Int16Array, peak 0..1): called every 100 ms.
  static async open(onBlock) {
    if (!navigator.mediaDevices) {
      throw new Error("The browser gives the microphone to pages of https or localhost only.");
    }
    const media = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true },
    });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
      const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
      recorder.port.onmessage = ({ data }) => onBlock(data.pcm, data.peak);
      context.createMediaStreamSource(media).connect(recorder);
      await context.resume();
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
