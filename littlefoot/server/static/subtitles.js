// Subtitles from segments {start, end, text}, times in seconds.

export function srt(segments) {
  return segments
    .map(({ start, end, text }, index) => `${index + 1}\n${time(start)} --> ${time(end)}\n${text}\n`)
    .join("\n");
}

function time(seconds) {
  const all = Math.round(seconds * 1000);
  const pad = (value, width = 2) => String(value).padStart(width, "0");
  const [hours, minutes, whole] = [Math.floor(all / 3600000), Math.floor(all / 60000) % 60, Math.floor(all / 1000) % 60];
  return `${pad(hours)}:${pad(minutes)}:${pad(whole)},${pad(all % 1000, 3)}`;
}
