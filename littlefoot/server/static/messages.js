// Errors and times in people's words.

const SERVER = {
  queue_full: "The server is busy. Try again in a minute.",
  timeout: "This took the server too long. Try a shorter recording.",
  stopping: "The server is being stopped. Try again when it runs.",
  invalid_api_key: "This API key is not valid.",
  missing_api_key: "This server needs an API key.",
};

export function explain(error) {
  return SERVER[error.code] ?? error.message;
}

// Seconds as 1:05 or 1:01:05.
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}
