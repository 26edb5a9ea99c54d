// What was said, as a file: plain text, SubRip, WebVTT or JSON. Made here; the server is not asked.

import { stamp } from "./clock.js";

// The customary guidelines for subtitles (Netflix timed text style guide).
const LINE_CHARS = 42;
const LINES = 2;
const SHORTEST_S = 5 / 6;
const LONGEST_S = 7;
const CHARS_PER_S = 17;
const PAUSE_S = 0.8; // between words of which the second begins another cue

export const FORMATS = {
  txt: { kind: "text/plain", write: (finals) => finals.map(({ text }) => `${text}\n`).join("") },
  srt: { kind: "application/x-subrip", write: srt },
  vtt: { kind: "text/vtt", write: vtt },
  json: { kind: "application/json", write: json },
};

/** Give the reader a file. */
export function download(name, finals) {
  const format = FORMATS[name];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([format.write(finals)], { type: format.kind }));
  const time = new Date().toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  link.download = `captions-${time}.${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function srt(finals) {
  return cues(finals)
    .map(({ start, end, lines }, at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${lines.join("\n")}\n\n`)
    .join("");
}

function vtt(finals) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const written = cues(finals).map(
    ({ start, end, lines }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escaped(lines.join("\n"))}\n\n`,
  );
  return `WEBVTT\n\n${written.join("")}`;
}

function json(finals) {
  const words = finals.flatMap((final) => final.words);
  const content = { text: finals.map(({ text }) => text).join(" "), finals, words };
  return `${JSON.stringify(content, null, 2)}\n`;
}

/** Cues of finals, in order and without overlap: [{start, end, lines}]. */
export function cues(finals) {
  const groups = finals.flatMap(grouped);
  return groups.map((words, at) => {
    const lines = laid(words);
    const start = words[0].start;
    const wanted = Math.max(SHORTEST_S, lines.join(" ").length / CHARS_PER_S);
    const end = Math.max(words.at(-1).end, start + wanted);
    const room = at + 1 < groups.length ? groups[at + 1][0].start : Infinity;
    return { start, end: Math.max(Math.min(end, start + LONGEST_S, room), start + 0.001), lines };
  });
}

function grouped(final) {
  const groups = [];
  for (const word of final.words.flatMap(pieces)) {
    const group = groups.at(-1);
    const pause = group && word.start - group.at(-1).end > PAUSE_S;
    if (!group || pause || word.end - group[0].start > LONGEST_S || laid([...group, word]).length > LINES) {
      groups.push([word]);
    } else group.push(word);
  }
  return groups;
}

function laid(words) {
  const lines = [];
  for (const { word } of words) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && longer.length <= LINE_CHARS) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** A word longer than a line (a script without spaces) in parts that share its time. */
function pieces(word) {
  const parts = word.word.match(new RegExp(`.{1,${LINE_CHARS}}`, "gu")) ?? [];
  const step = (word.end - word.start) / Math.max(1, parts.length);
  return parts.map((part, at) => ({ word: part, start: word.start + at * step, end: word.start + (at + 1) * step }));
}
