// The captions on the page. Each utterance has a line width, and a finished line never changes again: neither with later
// words nor with the window size, only when the reader asks for it (`refit`).

import { hasSmall, small } from "./case.js";
import { aligned, breakLines } from "./lines.js";
import { clock } from "./clock.js";
import { nameOf, tagOf } from "./languages.js";

const MAX_WIDTH_EM = { transcript: 34, captions: 24 }; // 24 em hold about the 42 characters of a subtitle line
const ANNOUNCED = 5; // finals in the live region
const TRANSLATION_SIZE = 0.85; // em, as in the style sheet
const CONFIDENCE = { doubtful: 0.5, unsure: 0.8 }; // a word below these is marked so

/** One utterance: a `<div>` with one `<div>` per line. */
class Utterance {
  element = document.createElement("div");
  language = ""; // code of the checkpoint; empty if it has only one
  #stamp = document.createElement("time");
  #label = null; // the element that names the language
  #translation = null; // the element of the second line
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
   * `display` gives the text of a word, `fits` whether a text fits the width. Committed words keep their lines, since
   * nothing before them changes; a final may revise them, so it keeps the line breaks `starts`.
   */
  show(words, separator, display, fits, starts = this.#starts) {
    const texts = words.map((word, at) => display(word.word, at));
    const places = starts.length > 1 ? aligned(this.#texts, texts) : [];
    const fixed = new Set(starts.slice(1).map((at) => places[at]).filter((at) => at !== null));
    this.words = words;
    this.#texts = texts;
    this.#starts = breakLines(texts, separator, (text) => fits(text, this.width), fixed);
    this.#draw(separator);
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
  refit(width, separator, display, fits) {
    this.width = width;
    this.show(this.words, separator, display, fits, []);
  }

  #draw(separator) {
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
        if (at === line.children.length) line.append(...(at ? [separator] : []), create("span", "word"));
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

/**
 * `box`: the element that scrolls. `announcer`: a live region, which gets finals only. `onChange` is called when
 * `following` or `misfit` may have changed.
 */
export class Captions {
  finals = []; // events of the protocol; `translations` has the texts by language
  languages = new Set(); // of translations
  following = true; // the view scrolls with the newest line
  #box;
  #announcer;
  #onChange;
  #measure = document.createElement("canvas").getContext("2d");
  #utterances = [];
  #open = null; // {utterance, event} of the utterance that is not final
  #byNumber = new Map(); // {utterance, final} of the session, by the protocol's number
  #frame = 0; // requested animation frame
  #separator = " ";
  #cased = false; // whether the model writes lower case
  #style = { mode: "transcript", sentence: true, translation: "" };

  constructor(box, { announcer = null, onChange = () => {} } = {}) {
    this.#box = box;
    this.#announcer = announcer;
    this.#onChange = onChange;
    box.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#resized()).observe(box);
  }

  get empty() {
    return !this.#utterances.length;
  }

  /** Whether lines were laid out for another width than the present one. */
  get misfit() {
    const width = this.#width();
    return this.#utterances.some((one) => one.width > width + 0.5 || one.width < 0.8 * width);
  }

  /** Show an event of a session whose audio began `offset` seconds after that of the first. */
  handle(event, offset = 0) {
    switch (event.type) {
      case "partial":
        if (event.words.length) this.#showPartial(shifted(event, offset));
        break;
      case "final":
        this.#showFinal(shifted(event, offset));
        break;
      case "translation":
        this.#addTranslation(event);
        break;
      case "speech_ended":
        this.#removeOpen();
        break;
    }
  }

  /** No final follows for the open utterance: keep its committed words. */
  finishOpen() {
    const words = this.#open?.event.words.filter((word) => word.committed) ?? [];
    if (!words.length) return this.#removeOpen();
    const confidence = words.reduce((sum, word) => sum + word.confidence, 0) / words.length;
    const text = words.map((word) => word.word).join(this.#separator);
    const { language } = this.#open.event;
    this.#showFinal({ type: "final", language, text, words, start: words[0].start, end: words.at(-1).end, confidence });
  }

  /** Set the style; another mode or case lays all lines out again. `translation` is a language, or empty. */
  setStyle({ mode, sentence, translation = "" }) {
    const relayout = mode !== this.#style.mode || sentence !== this.#style.sentence;
    const other = translation !== this.#style.translation;
    this.#style = { mode, sentence, translation };
    if (other) this.#byNumber.forEach((one) => this.#drawTranslation(one));
    if (relayout) this.refit();
    else this.#resized();
  }

  /** Lay all lines out again, when the reader asks for it. */
  refit() {
    this.#draw();
    const width = this.#width();
    for (const one of this.#utterances) one.refit(width, this.#separator, this.#display, this.#fits);
    this.#follow();
    this.#onChange();
  }

  /** Scroll to the newest line and follow it. */
  toLive() {
    this.following = true;
    this.#follow();
    this.#onChange();
  }

  clear() {
    this.#open = null;
    this.finals = [];
    this.#utterances.forEach((one) => one.element.remove());
    this.#utterances = [];
    this.#byNumber.clear();
    this.toLive();
  }

  #showPartial(event) {
    this.#cased ||= hasSmall(event.committed + event.volatile);
    const texts = [event.committed, event.volatile].filter(Boolean);
    this.#separator = event.words.length > 1 && !texts.some((text) => text.includes(" ")) && texts.length < 2 ? "" : " ";
    this.#open ??= { utterance: this.#add(event.words[0].start) };
    this.#open.event = event;
    this.#setLanguage(event);
    // Once per frame. A hidden tab draws nothing, so nothing else may rely on it.
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #showFinal(event) {
    this.#cased ||= hasSmall(event.text);
    if (event.words.length > 1) this.#separator = event.text.includes(" ") ? " " : "";
    const { utterance } = this.#open ?? { utterance: this.#add(event.words[0]?.start ?? event.start) };
    this.#open = null;
    this.finals.push(event);
    this.#setLanguage(event);
    utterance.show(event.words, this.#separator, this.#display, this.#fits);
    utterance.element.classList.add("final");
    utterance.element.removeAttribute("aria-hidden");
    if (event.utterance !== undefined) this.#byNumber.set(event.utterance, { utterance, final: event });
    this.#announce(event.text, tagOf(event.language));
    this.#follow();
    this.#onChange();
  }

  /** Of the newest utterance. */
  #setLanguage({ language = "" }) {
    this.#utterances.at(-1).setLanguage(language, this.#utterances.at(-2)?.language ?? "");
  }

  #addTranslation({ utterance, language, text }) {
    const one = this.#byNumber.get(utterance);
    if (!one) return;
    one.final.translations = { ...one.final.translations, [language]: text };
    this.languages.add(language);
    this.#onChange(); // which may choose this language
    this.#drawTranslation(one);
    if (language === this.#style.translation) this.#announce(text, language);
    this.#follow();
  }

  #drawTranslation({ utterance, final }) {
    const language = this.#style.translation;
    utterance.translate(final.translations?.[language] ?? null, language);
  }

  #removeOpen() {
    if (!this.#open) return;
    this.#utterances.pop().element.remove();
    this.#open = null;
    this.#onChange();
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#open) return;
    this.#open.utterance.show(this.#open.event.words, this.#separator, this.#display, this.#fits, []);
    this.#follow();
  }

  #add(start) {
    const utterance = new Utterance(start, this.#width());
    utterance.element.setAttribute("aria-hidden", "true"); // until it is final: screen readers would repeat it at every change
    this.#utterances.push(utterance);
    this.#box.append(utterance.element);
    this.#onChange();
    return utterance;
  }

  #announce(text, language = "") {
    if (!this.#announcer) return;
    const line = document.createElement("p");
    if (language) line.lang = language;
    line.textContent = text;
    this.#announcer.append(line);
    while (this.#announcer.children.length > ANNOUNCED) this.#announcer.firstElementChild.remove();
  }

  #display = (word, at) => {
    return !this.#style.sentence || this.#cased ? word : small(word, at === 0);
  };

  #fits = (text, width) => this.#measure.measureText(text).width / 100 <= width;

  /** The width of a line in em, which does not depend on the text size. */
  #width() {
    const style = getComputedStyle(this.#box);
    this.#measure.font = `${style.fontWeight} 100px ${style.fontFamily}`;
    const room = this.#box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const stamps = parseFloat(style.getPropertyValue("--stamps")) || 0;
    const maximum = parseFloat(style.getPropertyValue("--widest")) || MAX_WIDTH_EM[this.#style.mode];
    return Math.max(4, Math.min(room / parseFloat(style.fontSize) - stamps, maximum));
  }

  #follow() {
    if (this.following && !selecting(this.#box)) this.#box.scrollTop = this.#box.scrollHeight;
  }

  #scrolled() {
    if (this.#style.mode === "captions") return; // it does not scroll
    const below = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
    const following = below < 2 * parseFloat(getComputedStyle(this.#box).fontSize);
    if (following === this.following) return;
    this.following = following;
    this.#onChange();
  }

  #resized() {
    this.#follow();
    this.#onChange();
  }
}

function selecting(box) {
  const selection = getSelection();
  return !selection.isCollapsed && box.contains(selection.anchorNode);
}

function shifted(event, offset) {
  if (!offset) return event;
  const words = event.words.map((word) => ({ ...word, start: word.start + offset, end: word.end + offset }));
  return { ...event, words, start: event.start + offset, end: event.end + offset };
}
