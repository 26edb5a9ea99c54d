// The text as it is read. Words are laid into lines of one width for each utterance, and a line that is finished is not
// touched again: neither by what follows nor by the window, only when the reader asks for it (`refit`).

import { aligned, breakLines } from "./lines.js";
import { clock } from "./clock.js";

const WIDEST_EM = { transcript: 34, captions: 24 }; // the second holds about the 42 characters of subtitles
const ANNOUNCED = 5; // finals in the live region
const SURE = [0.5, 0.8]; // confidences between which a word is "unsure"; below it is "doubtful"

/** Words of an utterance in a `<div>` of its own, one `<div>` for each line. */
class Utterance {
  element = document.createElement("div");
  #stamp = document.createElement("time");
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
   * `written` says how each word is shown, `fits` whether a text fits the width. Committed words stay in their lines by
   * themselves, since nothing before them changes; a final may differ from them and keeps lines `as` they are.
   */
  show(words, separator, written, fits, as = this.#starts) {
    const texts = words.map((word, at) => written(word.word, at));
    const places = as.length > 1 ? aligned(this.#texts, texts) : [];
    const kept = new Set(as.slice(1).map((at) => places[at]).filter((at) => at !== null));
    this.words = words;
    this.#texts = texts;
    this.#starts = breakLines(texts, separator, (text) => fits(text, this.width), kept);
    this.#draw(separator);
  }

  /** Lay the words out anew, for another width. */
  refit(width, separator, written, fits) {
    this.width = width;
    this.show(this.words, separator, written, fits, []);
  }

  #draw(separator) {
    const lines = this.element.getElementsByClassName("line");
    while (lines.length > this.#starts.length) lines[lines.length - 1].remove();
    this.#starts.forEach((first, row) => {
      const line = lines[row] ?? this.element.appendChild(made("div", "line"));
      const count = (this.#starts[row + 1] ?? this.words.length) - first;
      while (line.children.length > count) {
        line.lastElementChild.remove();
        line.lastChild.remove(); // what separated it
      }
      for (let at = 0; at < count; at += 1) {
        if (at === line.children.length) line.append(...(at ? [separator] : []), made("span", "word"));
        draw(line.children[at], this.words[first + at], this.#texts[first + at]);
      }
    });
  }
}

function draw(element, word, text) {
  const sure = word.confidence < SURE[0] ? " doubtful" : word.confidence < SURE[1] ? " unsure" : "";
  const kind = `word${word.committed === false ? " volatile" : ""}${sure}`;
  if (element.textContent !== text) element.textContent = text;
  if (element.className !== kind) element.className = kind;
  element.word = word;
}

function made(tag, kind) {
  const element = document.createElement(tag);
  element.className = kind;
  return element;
}

/**
 * `box` is the element that scrolls; `announcer` a live region, which gets finals only; `changed` is called when
 * `following` or `misfit` may have changed.
 */
export class Captions {
  finals = []; // as the protocol has them
  following = true; // the newest line is kept in sight
  #box;
  #announcer;
  #changed;
  #pen = document.createElement("canvas").getContext("2d");
  #utterances = [];
  #open = null; // {utterance, event} of the one that is being said
  #drawing = 0;
  #separator = " ";
  #cased = false; // whether the model knows small letters
  #look = { mode: "transcript", sentence: true };

  constructor(box, { announcer = null, changed = () => {} } = {}) {
    this.#box = box;
    this.#announcer = announcer;
    this.#changed = changed;
    box.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#resized()).observe(box);
  }

  get empty() {
    return !this.#utterances.length;
  }

  /** Whether lines were laid out for another width than there is now. */
  get misfit() {
    const width = this.#width();
    return this.#utterances.some((one) => one.width > width + 0.5 || one.width < 0.8 * width);
  }

  /** An event of a session whose audio began `base` seconds after that of the first. */
  tell(event, base = 0) {
    switch (event.type) {
      case "partial":
        if (event.words.length) this.#say(moved(event, base));
        break;
      case "final":
        this.#finish(moved(event, base));
        break;
      case "speech_ended":
        this.#drop();
        break;
    }
  }

  /** There will be no final of what is being said: keep what is committed. */
  settle() {
    const words = this.#open?.event.words.filter((word) => word.committed) ?? [];
    if (!words.length) return this.#drop();
    const confidence = words.reduce((sum, word) => sum + word.confidence, 0) / words.length;
    const text = words.map((word) => word.word).join(this.#separator);
    this.#finish({ type: "final", text, words, start: words[0].start, end: words.at(-1).end, confidence });
  }

  /** How text looks; another mode or other letters lay it out anew. */
  look({ mode, sentence }) {
    const anew = mode !== this.#look.mode || sentence !== this.#look.sentence;
    this.#look = { mode, sentence };
    if (anew) this.refit();
    else this.#resized();
  }

  /** Lay all lines out anew. For the reader to ask for. */
  refit() {
    this.#draw();
    const width = this.#width();
    for (const one of this.#utterances) one.refit(width, this.#separator, this.#written, this.#fits);
    this.#follow();
    this.#changed();
  }

  /** Back to the newest line. */
  toLive() {
    this.following = true;
    this.#follow();
    this.#changed();
  }

  clear() {
    this.#open = null;
    this.finals = [];
    this.#utterances.forEach((one) => one.element.remove());
    this.#utterances = [];
    this.toLive();
  }

  #say(event) {
    if (/\p{Ll}/u.test(event.committed + event.volatile)) this.#cased = true;
    const texts = [event.committed, event.volatile].filter(Boolean);
    this.#separator = event.words.length > 1 && !texts.some((text) => text.includes(" ")) && texts.length < 2 ? "" : " ";
    this.#open ??= { utterance: this.#add(event.words[0].start) };
    this.#open.event = event;
    // Once for each frame; a tab that is not looked at draws nothing, so what follows may not rely on it.
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #finish(event) {
    if (/\p{Ll}/u.test(event.text)) this.#cased = true;
    if (event.words.length > 1) this.#separator = event.text.includes(" ") ? " " : "";
    const { utterance } = this.#open ?? { utterance: this.#add(event.words[0]?.start ?? event.start) };
    this.#open = null;
    this.finals.push(event);
    utterance.show(event.words, this.#separator, this.#written, this.#fits);
    utterance.element.classList.add("final");
    utterance.element.removeAttribute("aria-hidden");
    this.#announce(event.text);
    this.#follow();
    this.#changed();
  }

  #drop() {
    if (!this.#open) return;
    this.#utterances.pop().element.remove();
    this.#open = null;
    this.#changed();
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    if (!this.#open) return;
    this.#open.utterance.show(this.#open.event.words, this.#separator, this.#written, this.#fits, []);
    this.#follow();
  }

  #add(start) {
    const utterance = new Utterance(start, this.#width());
    utterance.element.setAttribute("aria-hidden", "true"); // until it is final: it would be read out again and again
    this.#utterances.push(utterance);
    this.#box.append(utterance.element);
    this.#changed();
    return utterance;
  }

  #announce(text) {
    if (!this.#announcer) return;
    const line = document.createElement("p");
    line.textContent = text;
    this.#announcer.append(line);
    while (this.#announcer.children.length > ANNOUNCED) this.#announcer.firstElementChild.remove();
  }

  #written = (word, at) => {
    if (!this.#look.sentence || this.#cased) return word;
    const spelled = word.length === 1 && word !== "A"; // a letter, or the first person
    const small = spelled ? word : word.toLowerCase();
    return at === 0 || small.startsWith("i'") ? small[0].toUpperCase() + small.slice(1) : small;
  };

  #fits = (text, width) => this.#pen.measureText(text).width / 100 <= width;

  /** Of a line, in em: so much is the same at every size of type. */
  #width() {
    const style = getComputedStyle(this.#box);
    this.#pen.font = `${style.fontWeight} 100px ${style.fontFamily}`;
    const room = this.#box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const stamps = parseFloat(style.getPropertyValue("--stamps")) || 0;
    const widest = parseFloat(style.getPropertyValue("--widest")) || WIDEST_EM[this.#look.mode];
    return Math.max(4, Math.min(room / parseFloat(style.fontSize) - stamps, widest));
  }

  #follow() {
    if (this.following && !selecting(this.#box)) this.#box.scrollTop = this.#box.scrollHeight;
  }

  #scrolled() {
    if (this.#look.mode === "captions") return; // nothing to scroll back to
    const below = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
    const following = below < 2 * parseFloat(getComputedStyle(this.#box).fontSize);
    if (following === this.following) return;
    this.following = following;
    this.#changed();
  }

  #resized() {
    this.#follow();
    this.#changed();
  }
}

function selecting(box) {
  const selection = getSelection();
  return !selection.isCollapsed && box.contains(selection.anchorNode);
}

function moved(event, base) {
  if (!base) return event;
  const words = event.words.map((word) => ({ ...word, start: word.start + base, end: word.end + base }));
  return { ...event, words, start: event.start + base, end: event.end + base };
}
