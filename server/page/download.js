// The transcript as a file: plain text, SubRip, WebVTT or JSON, made in the browser.

import { stamp } from "./clock.js";
import { cuesOfEach, translatedCuesOfEach } from "./cues.js";
import { spokenOf, tagOf } from "./languages.js";

export const FORMATS = {
  txt: { kind: "text/plain", write: txt },
  srt: { kind: "application/x-subrip", write: srt },
  vtt: { kind: "text/vtt", write: vtt },
  json: { kind: "application/json", write: json },
};

/**
 * Save the finals as a file, or, by a choice of language, their translations into it or those that were spoken in it.
 * `display` makes the texts for people; JSON has them as recognized.
 */
export function download(name, all, display, choice = "") {
  const format = FORMATS[name];
  const spoken = spokenOf(choice);
  const chosen = spoken ? all.filter((final) => final.language === spoken) : all;
  const finals = name === "json" ? chosen : chosen.map(display);
  const language = spoken ? "" : choice;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([format.write(finals, language)], { type: format.kind }));
  const time = new Date().toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  link.download = `captions-${time}${choice && `.${spoken || language}`}.${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function txt(finals, language) {
  const texts = finals.map((final) => (language ? final.translations?.[language] : final.text));
  return texts.filter(Boolean).map((text) => `${text}\n`).join("");
}

/** The cues of each final, or of its translation. */
function chosenCues(finals, language) {
  return language ? translatedCuesOfEach(finals, language) : cuesOfEach(finals);
}

function srt(finals, language) {
  return chosenCues(finals, language)
    .flat()
    .map(({ start, end, lines }, at) => `${at + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${lines.join("\n")}\n\n`)
    .join("");
}

function vtt(finals, language) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const tags = finals.map((final) => language || tagOf(final.language));
  const chosen = chosenCues(finals, language);
  const main = tags[chosen.findIndex((cues) => cues.length)]; // of the first cue
  const written = chosen.flatMap((cues, at) => {
    const [open, close] = tags[at] && tags[at] !== main ? [`<lang ${tags[at]}>`, "</lang>"] : ["", ""];
    return cues.map(
      ({ start, end, lines }) =>
        `${stamp(start, ".")} --> ${stamp(end, ".")}\n${open}${escaped(lines.join("\n"))}${close}\n\n`,
    );
  });
  return `WEBVTT\n${main ? `Language: ${main}\n` : ""}\n${written.join("")}`;
}

function json(finals) {
  const words = finals.flatMap((final) => final.words);
  const content = { text: finals.map(({ text }) => text).join(" "), finals, words };
  return `${JSON.stringify(content, null, 2)}\n`;
}
