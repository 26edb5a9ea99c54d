// Messages that may have to be sent again: unacknowledged ones to the same server after a broken connection; to another
// server also the acknowledged ones from the safe sample on.

const MAX_UNACKNOWLEDGED = 16 << 20; // bytes: 9 minutes of 16 kHz 16-bit mono; more is dropped
const MAX_ACKNOWLEDGED = 16 << 20; // bytes; beyond them the oldest is dropped, and the session cannot move

/** Audio (Uint8Array of 16-bit mono samples) and the messages between it (strings), in order. */
export class Replay {
  config; // the session's settings at the safe sample
  keeps = false; // whether another server can continue the session
  safe = 0; // sample; no server needs audio before it
  #first; // the settings of the start
  #enabled = true;
  #messages = []; // unacknowledged: {end: bytes of audio up to here, message}
  #end = 0;
  #bytes = 0; // of #messages
  #acknowledged = []; // as #messages
  #acknowledgedBytes = 0;
  #dropped = 0; // bytes of audio before which messages were dropped

  constructor(config = {}) {
    this.#first = config;
    this.reset();
  }

  /** Whether messages have changed the settings. */
  get changed() {
    return JSON.stringify(this.config) !== JSON.stringify(this.#first);
  }

  /** Take the settings of the start again. */
  reset() {
    this.config = { ...this.#first };
  }

  /** Store nothing: the session can neither be resumed nor move. */
  disable() {
    this.#enabled = false;
    this.#messages = this.#acknowledged = [];
    this.#bytes = this.#acknowledgedBytes = 0;
  }

  /** Store a message before it is sent. False if there is no room. */
  add(message) {
    if (!this.#enabled) return true;
    if (this.#bytes + message.length > MAX_UNACKNOWLEDGED) return false;
    if (typeof message !== "string") this.#end += message.length;
    this.#bytes += message.length;
    this.#messages.push({ end: this.#end, message });
    return true;
  }

  /** Whether another server can have everything from the safe sample on. */
  get complete() {
    return this.keeps && this.#dropped <= 2 * this.safe;
  }

  /** The server has received so many samples. Messages right behind them may still be on their way. */
  acknowledge(samples, safe = 0) {
    const received = 2 * samples;
    while (this.#messages.length && this.#messages[0].end <= received) {
      const { end, message } = this.#messages[0];
      if (end === received && typeof message === "string") break;
      this.#messages.shift();
      this.#bytes -= message.length;
      this.#acknowledged.push({ end, message });
      this.#acknowledgedBytes += message.length;
    }
    this.safe = Math.max(this.safe, safe);
    this.#prune();
  }

  /** The messages to send again to a server that has received so many samples. */
  since(samples) {
    this.acknowledge(samples);
    return after(this.#messages, 2 * samples);
  }

  /** The messages for another server, from the safe sample on; they count as unacknowledged again. */
  restart() {
    this.#messages.unshift(...this.#acknowledged.splice(0));
    this.#bytes += this.#acknowledgedBytes;
    this.#acknowledgedBytes = 0;
    return after(this.#messages, 2 * this.safe);
  }

  #prune() {
    const safe = this.keeps ? 2 * this.safe : Infinity;
    while (this.#acknowledged.length) {
      const { end, message } = this.#acknowledged[0];
      const passed = end < safe || (end === safe && typeof message !== "string");
      if (!passed && this.#acknowledgedBytes <= MAX_ACKNOWLEDGED) return;
      this.#acknowledged.shift();
      this.#acknowledgedBytes -= message.length;
      if (typeof message === "string") this.#apply(JSON.parse(message));
      else if (!passed) this.#dropped = end;
    }
  }

  #apply({ type, language, allowed_languages = [] }) {
    if (type === "set_language") Object.assign(this.config, { language, allowed_languages });
  }
}

/** The messages after a position in bytes; text messages also at it. */
function after(messages, position) {
  const rest = [];
  for (const { end, message } of messages) {
    if (typeof message === "string") rest.push(message);
    else if (end > position) rest.push(message.subarray(Math.max(0, position - (end - message.length))));
  }
  return rest;
}
