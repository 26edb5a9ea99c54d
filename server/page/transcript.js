// The text as something to keep: copied, saved, cleared with undo, and restored after the page was left.

import { clock } from "./clock.js";
import { copyText, textOf } from "./copying.js";
import { store, stored } from "./languages.js";

const KEY = "xlsr-live.transcript";
const COPIED_MS = 2_000;
const STORE_MS = 1_000; // between two writes of the whole text

const $ = (id) => document.getElementById(id);

export class Transcript {
  offset = 0; // seconds of audio of the sessions so far
  #captions;
  #running = false;
  #kind = "Finished";
  #safe = 0; // number of finals that are saved or copied
  #cleared = null; // what Undo brings back
  #kept = null; // brings back the text of the last visit, until the speaker has decided
  #timer = 0; // of the next write to the store
  #seconds = 0; // of the open session

  constructor(captions) {
    this.#captions = captions;
    $("new").onclick = $("clear").onclick = () => this.#clear();
    $("copy-all").onclick = () => this.#copy();
    $("save").addEventListener("click", ({ target }) => {
      if (target.tagName === "BUTTON" && !$("save-language").value) this.#mark(); // the whole text, in the original
    });
    addEventListener("pagehide", () => this.#timer && this.#store());
    this.#offerKept();
  }

  /** Whether the page has text that is neither saved nor copied. */
  get unsaved() {
    return this.#captions.finals.length > this.#safe;
  }

  /** A session begins. */
  begin() {
    this.#kept?.(); // or the first final would replace it in the store
    this.#kept = null;
    this.#running = true;
    this.#kind = "Finished";
    if (!this.#cleared || this.#cleared.offset !== this.offset) hideOffer(); // the times would no longer fit
    this.#captions.beginSession(new Date().toISOString());
    this.show();
  }

  /** A session of so many seconds has ended. */
  end(seconds) {
    this.#running = false;
    this.offset += seconds;
    this.#seconds = 0;
    if (seconds) this.#store();
    this.show();
  }

  /** Store the text soon; the open session has so many seconds. */
  keep(seconds) {
    this.#seconds = seconds;
    this.#timer ||= setTimeout(() => this.#store(), STORE_MS);
  }

  show() {
    const { finals } = this.#captions;
    $("clear").hidden = !this.#running || !finals.length;
    $("finished").hidden = this.#running || !finals.length;
    if (!this.#running) $("finished-text").textContent = `${this.#kind}, ${size(this.offset, finals)}`;
  }

  #store() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { finals } = this.#captions;
    if (finals.length) store(KEY, { seconds: this.offset + this.#seconds, finals: finals.map(packed) });
  }

  #mark() {
    this.#safe = this.#captions.finals.length;
  }

  async #copy() {
    await copyText(`${textOf($("captions"))}\n`);
    this.#mark();
    $("copied-all").textContent = "Copied.";
    setTimeout(() => ($("copied-all").textContent = ""), COPIED_MS);
  }

  #clear() {
    this.#cleared = { removed: this.#captions.clear(), offset: this.offset, safe: this.#safe };
    if (!this.#running) this.offset = 0;
    this.#safe = 0;
    clearTimeout(this.#timer);
    this.#timer = 0;
    forget();
    this.show();
    offer("The text is cleared.", { Undo: () => this.#undo(), Close: () => {} }, () => (this.#cleared = null));
    if (!this.#running) $("start").focus();
  }

  #undo() {
    const { removed, offset, safe } = this.#cleared;
    this.#captions.restore(removed);
    this.offset = Math.max(this.offset, offset); // a session may have ended since
    this.#safe = safe;
    this.#store();
    this.show();
  }

  /** Offer the text of the last visit. */
  #offerKept() {
    const kept = stored(KEY);
    if (!kept?.finals?.length) return;
    const finals = kept.finals.map(unpacked);
    const restore = () => {
      this.#captions.load(finals);
      this.offset = kept.seconds;
      this.#kind = "Restored";
      this.#mark();
      this.show();
    };
    this.#kept = restore;
    const text = `This browser has kept your last text: ${size(kept.seconds, finals)}.`;
    offer(text, { Restore: restore, Delete: forget }, () => (this.#kept = null));
  }
}

/** A final in a quarter of the room: browsers store some megabytes, which are then ten hours. */
function packed({ words, ...rest }) {
  const round = (number) => Math.round(number * 1000) / 1000;
  return { ...rest, words: words.map(({ word, start, end, confidence }) => [word, ...[start, end, confidence].map(round)]) };
}

function unpacked({ words, ...rest }) {
  return { ...rest, words: words.map(([word, start, end, confidence]) => ({ word, start, end, confidence })) };
}

/** "0:38, 52 words" */
function size(seconds, finals) {
  const words = finals.reduce((sum, final) => sum + final.words.length, 0);
  return `${clock(seconds)}, ${words} ${words === 1 ? "word" : "words"}`;
}

/** Ask with one button for each answer; `onClose` is called in any case. */
function offer(text, answers, onClose = () => {}) {
  $("offer-text").textContent = text;
  $("offer-answers").replaceChildren(
    ...Object.entries(answers).map(([name, act]) => {
      const button = document.createElement("button");
      button.textContent = name;
      button.onclick = () => {
        act();
        hideOffer();
        onClose();
      };
      return button;
    }),
  );
  $("offer").hidden = false;
}

function hideOffer() {
  $("offer").hidden = true;
}

function forget() {
  store(KEY, null);
}
