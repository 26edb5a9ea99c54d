// One utterance on the page, and the divider between sessions.

import { clock } from "./clock.js";
import { nameOf, tagOf } from "./languages.js";
import { aligned, breakLines } from "./lines.js";

const TRANSLATION_SIZE = 0.85; // em, as in the style sheet
const CONFIDENCE = { doubtful: 0.5, unsure: 0.8 }; // a word below these is marked so

/** One utterance: a `<div>` with one `<div>` per line. */
export class Utterance {
  element = document.createElement("div");
  language = ""; // code of the checkpoint; empty if it has only one
  final = null; // the event
  #stamp = document.createElement("time");
  #label = null; // the element that names the language
  #translation = null; // the element of the second line
  #separator = " "; // between its words
  #starts = [];
  #texts = [];
  words = [];

  constructor(start, width) {
    this.width = width;
    this.element.className = "utterance";
    this.#stamp.className = "stamp";
    this.#stamp.textContent = clock(start);
    this.element.append(this.#stamp);
  }

  /**
   * `display` gives the texts of words and of the final, `fits` whether a text fits the width. Committed words keep their
   * lines, since nothing before them changes; a final may revise them, so it keeps the line breaks `starts`.
   */
  show(words, separator, display, fits, starts = this.#starts) {
    const texts = display(words, this.final).map(({ word }) => word);
    const places = starts.length > 1 ? aligned(this.#texts, texts) : [];
    const fixed = new Set(starts.slice(1).map((at) => places[at]).filter((at) => at !== null));
    this.words = words;
    if (this.final && words.length) this.#stamp.textContent = clock(words[0].start); // the first partial had a guess
    this.#separator = this.element.dataset.separator = separator;
    this.#texts = texts;
    this.#starts = breakLines(texts, separator, (text) => fits(text, this.width), fixed);
    this.#draw();
  }

  /** Mark the text with its language, and name it if the utterance before had another. */
  setLanguage(code, before) {
    if (code === this.language) return;
    this.language = code;
    this.element.lang = tagOf(code);
    this.#label?.remove();
    if (!code || code === before) return;
    this.#label = create("div", "language");
    this.#label.textContent = nameOf(code);
    this.#label.lang = navigator.language; // of the name
    this.#stamp.after(this.#label);
  }

  /** Show a translation below the lines; null: none. */
  translate(text, language) {
    if (text === null) {
      this.#translation?.remove();
      this.#translation = null;
      return;
    }
    this.#translation ??= this.element.appendChild(create("div", "translation"));
    this.#translation.lang = language;
    this.#translation.dir = "auto";
    this.#translation.style.maxWidth = `${this.width / TRANSLATION_SIZE}em`;
    this.#translation.textContent = text;
  }

  /** Lay the words out again for another width. */
  refit(width, display, fits) {
    this.width = width;
    this.show(this.words, this.#separator, display, fits, []);
  }

  #draw() {
    const lines = this.element.getElementsByClassName("line");
    while (lines.length > this.#starts.length) lines[lines.length - 1].remove();
    this.#starts.forEach((first, row) => {
      const line = lines[row] ?? this.element.insertBefore(create("div", "line"), this.#translation);
      const count = (this.#starts[row + 1] ?? this.words.length) - first;
      while (line.children.length > count) {
        line.lastElementChild.remove();
        line.lastChild.remove(); // the separator
      }
      for (let at = 0; at < count; at += 1) {
        if (at === line.children.length) line.append(...(at ? [this.#separator] : []), create("span", "word"));
        drawWord(line.children[at], this.words[first + at], this.#texts[first + at]);
      }
    });
  }
}

function drawWord(span, word, text) {
  const mark = Object.keys(CONFIDENCE).find((name) => word.confidence < CONFIDENCE[name]);
  const kind = `word${word.committed === false ? " volatile" : ""}${mark ? ` ${mark}` : ""}`;
  if (span.textContent !== text) span.textContent = text;
  if (span.className !== kind) span.className = kind;
  span.word = word;
}

function create(tag, kind) {
  const element = document.createElement(tag);
  element.className = kind;
  return element;
}

/** A line with the time at which the session below it began. */
export function divider(began) {
  const line = create("div", "divider");
  line.setAttribute("role", "separator");
  line.append(create("time", ""));
  line.firstChild.dateTime = began;
  line.firstChild.textContent = timeOfDay(began);
  return line;
}

/** "14:05", with the date if it is not today. */
export function timeOfDay(iso) {
  const time = new Date(iso);
  const today = time.toDateString() === new Date().toDateString();
  return time.toLocaleString(navigator.language, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}
