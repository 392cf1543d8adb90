// The server's API. Paths are relative, so that a proxy may put the page anywhere.

let key = "";

export function useKey(value) {
  key = value;
}

const UNREACHABLE = "The server cannot be reached. See whether it still runs, then try again.";

export class ApiError extends Error {
  // status: of HTTP, 0 without an answer; code: the server's, such as queue_full
  constructor(message, status, code = null) {
    super(message);
    Object.assign(this, { status, code });
  }
}

const refused = ({ message, code }, status) => new ApiError(message, status, code);

// The error of an answer, which need not be littlefoot's.
function answered(status, text) {
  try {
    return refused(JSON.parse(text).error, status);
  } catch {
    return new ApiError(`The server refused this (${status}).`, status);
  }
}

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function asked(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { ...options, headers: { ...headers(), ...options.headers } });
  } catch {
    throw new ApiError(UNREACHABLE, 0);
  }
  if (response.ok) return response;
  throw answered(response.status, await response.text());
}

export async function models() {
  return (await (await asked("v1/models")).json()).data;
}

// SRT or VTT of segments {start, end, text, words}.
export async function subtitles(segments, format) {
  const response = await asked("v1/subtitles", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ segments, format }),
  });
  return response.text();
}

// Yields {type, ...}: `upload` with `share` of the bytes, transcript.text.delta with `delta` and `seconds`, the end of its
// last word, and at last transcript.text.done with `segments` and `words`. An AbortSignal cancels it.
export async function* transcribe(file, model, signal) {
  const body = new FormData();
  if (model) body.append("model", model); // the server's first, where the list has not come yet
  body.append("stream", "true");
  body.append("response_format", "verbose_json");
  for (const kind of ["segment", "word"]) body.append("timestamp_granularities[]", kind);
  body.append("file", file);
  let read = 0;
  for await (const { share, text, over } of posted("v1/audio/transcriptions", body, signal)) {
    if (share !== undefined) yield { type: "upload", share };
    for (;;) {
      const end = text?.indexOf("\n\n", read) ?? -1;
      if (end < 0) break;
      const data = text.slice(read, end).replace(/^data: /, "");
      read = end + 2;
      if (data === "[DONE]") return;
      const content = JSON.parse(data);
      if (content.error) throw refused(content.error, 0);
      yield content;
    }
    if (over) throw new ApiError("The connection broke before the end. Try again.", 0);
  }
}

// Yields {share} while the body is sent, and {text, over} with the whole answer so far. fetch() cannot tell what it has sent.
async function* posted(url, body, signal) {
  const request = new XMLHttpRequest();
  const events = [];
  let wake = () => {};
  const happened = (event) => {
    events.push(event);
    wake();
  };
  request.open("POST", url);
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.upload.onprogress = ({ loaded, total }) => happened({ share: loaded / total });
  request.onprogress = () => request.status === 200 && happened({ text: request.responseText });
  request.onload = () => happened({ text: request.responseText, over: true });
  request.onerror = () => happened({ error: new ApiError(UNREACHABLE, 0) });
  request.onabort = () => happened({ error: new ApiError("Cancelled.", 0, "cancelled") });
  signal.addEventListener("abort", () => request.abort());
  request.send(body);
  for (;;) {
    if (!events.length) await new Promise((resolve) => (wake = resolve));
    const event = events.shift();
    if (event.error) throw event.error;
    if (event.over && request.status !== 200) throw answered(request.status, event.text);
    yield event;
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
      if (message.type === "error") this.#fail(on, refused(message.error, 0));
      else on[message.type]?.(message);
    };
    this.socket.onclose = () => this.#fail(on, new ApiError("The connection to the server broke. Try again.", 0));
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
