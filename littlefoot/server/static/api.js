// The server's API. Paths are relative, so that a proxy may put the page anywhere.

let key = "";

export function useKey(value) {
  key = value;
}

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function checked(response) {
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not from littlefoot: the status has to do
  }
  throw new ApiError(message, response.status);
}

export async function models() {
  const response = await checked(await fetch("v1/models", { headers: headers() }));
  return (await response.json()).data;
}

// SRT of segments {start, end, text, words}.
export async function srt(segments) {
  const response = await checked(
    await fetch("v1/subtitles", {
      method: "POST",
      headers: { ...headers(), "Content-Type": "application/json" },
      body: JSON.stringify({ segments }),
    }),
  );
  return response.text();
}

// Yields {type, ...}: transcript.text.delta with `delta`, and at last transcript.text.done with `segments` and `words`.
export async function* transcribe(file, model) {
  const body = new FormData();
  if (model) body.append("model", model); // the server's first, where the list has not come yet
  body.append("stream", "true");
  body.append("response_format", "verbose_json");
  for (const kind of ["segment", "word"]) body.append("timestamp_granularities[]", kind);
  body.append("file", file);
  const response = await checked(
    await fetch("v1/audio/transcriptions", { method: "POST", headers: headers(), body }),
  );
  let text = "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new ApiError("The connection broke before the end.", 0);
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const content = JSON.parse(data);
      if (content.error) throw new ApiError(content.error.message, 0);
      yield content;
    }
  }
}

// A live stream. on: functions ready, partial, final, done (each gets the message), failed (gets an Error).
export class Live {
  constructor(model, on) {
    const url = new URL("v1/live", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.over = false;
    this.waiting = [];
    this.ready = false;
    this.socket.onopen = () => this.socket.send(JSON.stringify({ type: "start", model, api_key: key || undefined }));
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready") {
        this.ready = true;
        this.waiting.forEach((block) => this.socket.send(block));
        this.waiting = [];
      }
      if (message.type === "done") this.over = true;
      if (message.type === "error") this.#fail(on, new ApiError(message.error.message, message.error.code));
      else on[message.type]?.(message);
    };
    this.socket.onclose = () => this.#fail(on, new ApiError("The connection to the server broke.", 0));
  }

  #fail(on, error) {
    if (!this.over) on.failed(error);
    this.over = true;
  }

  // An Int16Array, or a string of JSON; kept until the server is ready.
  send(block) {
    if (this.ready) {
      if (this.socket.readyState === WebSocket.OPEN) this.socket.send(block);
    } else this.waiting.push(block);
  }

  stop() {
    this.send(JSON.stringify({ type: "stop" }));
  }
}
