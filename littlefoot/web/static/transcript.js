// Words as segments and subtitles.

const PAUSE = 0.8; // seconds without a word that end a segment, as in live recognition
const LONGEST = 6; // seconds of a subtitle
const WIDEST = 84; // characters of a subtitle: two lines

// words: [{text, start, end}] -> [{text, start, end, words}]
export function segmentsOf(words) {
  return groups(words, (group, word) => word.start - group.at(-1).end >= PAUSE);
}

// segments -> the content of an .srt file
export function srt(segments) {
  const full = (group, word) =>
    word.end - group[0].start > LONGEST || length(group) + 1 + word.text.length > WIDEST;
  return segments
    .flatMap((segment) => groups(segment.words, full))
    .map(({ text, start, end }, index) => `${index + 1}\n${time(start)} --> ${time(end)}\n${text}\n`)
    .join("\n");
}

function groups(words, ends) {
  const made = [];
  for (const word of words) {
    if (made.length === 0 || ends(made.at(-1), word)) made.push([]);
    made.at(-1).push(word);
  }
  return made.map((group) => ({
    text: group.map(({ text }) => text).join(" "),
    start: group[0].start,
    end: group.at(-1).end,
    words: group,
  }));
}

const length = (group) => group.reduce((sum, { text }) => sum + text.length + 1, -1);

function time(seconds) {
  const milliseconds = Math.round(seconds * 1000);
  const part = (size, of, digits) => String(Math.floor(milliseconds / size) % of).padStart(digits, "0");
  return `${part(3600000, 1e9, 2)}:${part(60000, 60, 2)}:${part(1000, 60, 2)},${part(1, 1000, 3)}`;
}
