// The transcript as a file: plain text, SubRip, WebVTT or JSON, made in the browser.

import { stamp } from "./clock.js";
import { cues, translatedCues } from "./cues.js";

export const FORMATS = {
  txt: { kind: "text/plain", write: txt },
  srt: { kind: "application/x-subrip", write: srt },
  vtt: { kind: "text/vtt", write: vtt },
  json: { kind: "application/json", write: json },
};

/** Save the finals as a file, or their translations into a language. */
export function download(name, finals, language = "") {
  const format = FORMATS[name];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([format.write(finals, language)], { type: format.kind }));
  const time = new Date().toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  link.download = `captions-${time}${language && `.${language}`}.${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function txt(finals, language) {
  const texts = finals.map((final) => (language ? final.translations?.[language] : final.text));
  return texts.filter(Boolean).map((text) => `${text}\n`).join("");
}

function chosenCues(finals, language) {
  return language ? translatedCues(finals, language) : cues(finals);
}

function srt(finals, language) {
  return chosenCues(finals, language)
    .map(({ start, end, lines }, at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${lines.join("\n")}\n\n`)
    .join("");
}

function vtt(finals, language) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const written = chosenCues(finals, language).map(
    ({ start, end, lines }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escaped(lines.join("\n"))}\n\n`,
  );
  return `WEBVTT\n\n${written.join("")}`;
}

function json(finals) {
  const words = finals.flatMap((final) => final.words);
  const content = { text: finals.map(({ text }) => text).join(" "), finals, words };
  return `${JSON.stringify(content, null, 2)}\n`;
}
