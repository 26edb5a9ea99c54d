// The captions on the page. Each utterance has a line width, and a finished line never changes again: neither with later
// words nor with the window size, only when the reader asks for it (`refit`).

import { displayed, hasSmall, reworded, small } from "./case.js";
import { tagOf } from "./languages.js";
import { divider, Utterance } from "./utterance.js";

const MAX_WIDTH_EM = { transcript: 34, captions: 24 }; // 24 em hold about the 42 characters of a subtitle line
const ANNOUNCED = 5; // finals in the live region

/**
 * `box`: the element that scrolls. `announcer`: a live region, which gets finals only. `onChange` is called when
 * `following` or `misfit` may have changed.
 */
export class Captions {
  finals = []; // events of the protocol; `translations` has the texts by language
  languages = new Set(); // of translations
  spoken = new Set(); // the checkpoint's codes of the finals' languages
  following = true; // the view scrolls with the newest line
  #box;
  #text = document.createElement("div"); // a block in the box: browsers lay out only what changes in it
  #announcer;
  #onChange;
  #measure = document.createElement("canvas").getContext("2d");
  #utterances = [];
  #open = null; // {utterance, event} of the utterance that is not final
  #byNumber = new Map(); // final utterances of the session, by the protocol's number
  #began = ""; // time at which the session began
  #divided = ""; // the same of the newest utterance
  #height = 0; // of the box, in pixels
  #loading = 0; // width of all lines, in em, while `load` runs
  #frame = 0; // requested animation frame
  #separator = " ";
  #cased = false; // whether the model writes lower case
  #style = { mode: "transcript", sentence: true, punctuation: true, translation: "" };

  constructor(box, { announcer = null, onChange = () => {} } = {}) {
    this.#box = box;
    this.#text.className = "text";
    box.append(this.#text);
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

  /** Events from here on belong to a session that began at this time (ISO 8601). */
  beginSession(began) {
    this.#began = began;
    this.#byNumber.clear();
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

  /**
   * Set the style; another mode, case or punctuation lays all lines out again. `translation` is a language, or empty.
   */
  setStyle({ mode, sentence, punctuation = true, translation = "" }) {
    const old = this.#style;
    const relayout = mode !== old.mode || sentence !== old.sentence || punctuation !== old.punctuation;
    const other = translation !== old.translation;
    this.#style = { mode, sentence, punctuation, translation };
    if (other) this.#utterances.forEach((one) => this.#drawTranslation(one));
    if (relayout) this.refit();
    else this.#resized();
  }

  /** Lay all lines out again, when the reader asks for it. */
  refit() {
    this.#draw();
    const width = this.#width();
    for (const one of this.#utterances) one.refit(width, this.#display, this.#fits);
    this.#follow();
    this.#changed();
  }

  /** Scroll to the newest line and follow it. */
  toLive() {
    this.following = true;
    this.#follow();
    this.#changed();
  }

  /** Remove the finished text; returns it for `restore`. */
  clear() {
    const nodes = [...this.#text.querySelectorAll(".utterance.final, .divider")];
    nodes.forEach((node) => node.remove());
    const removed = { nodes, finals: this.finals, utterances: this.#utterances.filter((one) => one.final) };
    this.finals = [];
    this.#utterances = this.#utterances.filter((one) => !one.final);
    this.toLive();
    return removed;
  }

  /** Put removed text back, above the present one. */
  restore({ nodes, finals, utterances }) {
    this.#text.prepend(...nodes);
    this.finals.unshift(...finals);
    this.#utterances.unshift(...utterances);
    this.toLive();
  }

  /** Show finals of an earlier visit, with their translations; nobody reads them out. */
  load(finals) {
    const announcer = this.#announcer;
    this.#announcer = null;
    this.#loading = this.#width();
    for (const final of finals) {
      if (final.began !== this.#began) this.beginSession(final.began ?? "");
      this.#showFinal(final);
      for (const language of Object.keys(final.translations ?? {})) this.languages.add(language);
    }
    this.#loading = 0;
    this.#announcer = announcer;
    this.#utterances.forEach((one) => this.#drawTranslation(one));
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
    if (this.#began) event = { ...event, began: this.#began };
    this.finals.push(event);
    if (event.language) this.spoken.add(event.language);
    this.#setLanguage(event);
    utterance.final = event;
    utterance.show(event.words, this.#separator, this.#display, this.#fits);
    utterance.element.classList.add("final");
    utterance.element.removeAttribute("aria-hidden");
    if (event.utterance !== undefined) this.#byNumber.set(event.utterance, utterance);
    this.#announce(this.display(event).text, tagOf(event.language));
    this.#follow();
    this.#changed();
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
    this.#changed(); // which may choose this language
    this.#drawTranslation(one);
    if (language === this.#style.translation) this.#announce(text, language);
    this.#follow();
  }

  #drawTranslation(utterance) {
    const language = this.#style.translation;
    utterance.translate(utterance.final?.translations?.[language] ?? null, language);
  }

  #removeOpen() {
    if (!this.#open) return;
    this.#utterances.pop().element.remove();
    this.#open = null;
    this.#changed();
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
    if (!this.empty && this.#began !== this.#divided) this.#text.append(divider(this.#began));
    this.#divided = this.#began;
    this.#utterances.push(utterance);
    this.#text.append(utterance.element);
    this.#changed();
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

  /** A final as people read it. */
  display = (final) => displayed(final, { ...this.#style, sentence: this.#lowers });

  get #lowers() {
    return this.#style.sentence && !this.#cased;
  }

  /** The words of an utterance as people read them; `final` is null for an open one. */
  #display = (words, final) => {
    if (final) return this.display(final).words;
    return this.#lowers ? reworded(words, (word, at) => small(word, at === 0)) : words;
  };

  #fits = (text, width) => this.#measure.measureText(text).width / 100 <= width;

  /** The width of a line in em, which does not depend on the text size. */
  #width() {
    if (this.#loading) return this.#loading;
    const style = getComputedStyle(this.#box);
    this.#measure.font = `${style.fontWeight} 100px ${style.fontFamily}`;
    const room = this.#box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const stamps = parseFloat(style.getPropertyValue("--stamps")) || 0;
    const maximum = parseFloat(style.getPropertyValue("--widest")) || MAX_WIDTH_EM[this.#style.mode];
    return Math.max(4, Math.min(room / parseFloat(style.fontSize) - stamps, maximum));
  }

  #changed() {
    if (!this.#loading) this.#onChange();
  }

  #follow() {
    if (this.#loading) return;
    if (this.following && !selecting(this.#box)) this.#box.scrollTop = this.#box.scrollHeight;
  }

  #scrolled() {
    if (this.#style.mode === "captions") return; // it does not scroll
    if (this.#box.clientHeight !== this.#height) return; // the observer follows the new size
    const below = this.#box.scrollHeight - this.#box.scrollTop - this.#box.clientHeight;
    const following = below < 2 * parseFloat(getComputedStyle(this.#box).fontSize);
    if (following === this.following) return;
    this.following = following;
    this.#changed();
  }

  #resized() {
    this.#height = this.#box.clientHeight;
    this.#follow();
    this.#changed();
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
