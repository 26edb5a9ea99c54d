// Messages that may have to be sent again: unacknowledged ones after a broken connection; with a new session, also the
// acknowledged audio that has no final yet.

const MAX_UNACKNOWLEDGED = 16 << 20; // bytes: 9 minutes of 16 kHz 16-bit mono; more is dropped
const MAX_UNFINISHED = 4 << 20; // bytes: 2 minutes, more than an utterance and its delay; the oldest is dropped

/** Audio (Uint8Array of 16-bit mono samples) and the messages between it (strings), in order. */
export class Replay {
  #messages = []; // unacknowledged: {end: bytes of audio up to here, message}
  #end = 0;
  #bytes = 0; // of #messages
  #acknowledged = []; // audio without a final, as in #messages
  #acknowledgedBytes = 0;
  #finished = 0; // bytes of audio with finals

  /** Store a message before it is sent. False if there is no room. */
  add(message) {
    if (this.#bytes + message.length > MAX_UNACKNOWLEDGED) return false;
    if (typeof message !== "string") this.#end += message.length;
    this.#bytes += message.length;
    this.#messages.push({ end: this.#end, message });
    return true;
  }

  /** The server has received so many samples. Messages right behind them may still be on their way. */
  acknowledge(samples) {
    const received = 2 * samples;
    while (this.#messages.length && this.#messages[0].end <= received) {
      const { end, message } = this.#messages[0];
      if (end === received && typeof message === "string") break;
      this.#messages.shift();
      this.#bytes -= message.length;
      if (typeof message === "string") continue;
      this.#acknowledged.push({ end, message });
      this.#acknowledgedBytes += message.length;
    }
    this.#prune();
  }

  /** The text of all audio before this sample is final. */
  finish(sample) {
    this.#finished = Math.max(this.#finished, 2 * Math.floor(sample));
    this.#prune();
  }

  /** The audio without a final, and its first sample: {parts, from}. */
  unfinished() {
    const audio = [...this.#acknowledged, ...this.#messages].filter(({ message }) => typeof message !== "string");
    const rest = audio.filter(({ end }) => end > this.#finished);
    const parts = rest.map(({ end, message }) => message.subarray(Math.max(0, this.#finished - (end - message.length))));
    return { parts, from: (this.#end - parts.reduce((sum, part) => sum + part.length, 0)) / 2 };
  }

  #prune() {
    const superfluous = () => this.#acknowledged[0].end <= this.#finished || this.#acknowledgedBytes > MAX_UNFINISHED;
    while (this.#acknowledged.length && superfluous()) {
      this.#acknowledgedBytes -= this.#acknowledged.shift().message.length;
    }
  }

  /** The messages to send again to a server that has received so many samples. */
  since(samples) {
    this.acknowledge(samples);
    const received = 2 * samples;
    const rest = [];
    for (const { end, message } of this.#messages) {
      if (typeof message === "string") rest.push(message);
      else if (end > received) rest.push(message.subarray(Math.max(0, received - (end - message.length))));
    }
    return rest;
  }
}
