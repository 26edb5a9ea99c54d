// What was sent and may have to be sent again: what the server may not have heard, when a connection has broken; what
// it has heard but not finished as well, when it has forgotten the session.

export const HELD_BYTES = 16 << 20; // 9 minutes of 16 kHz 16-bit mono; beyond it what is said is given up
const HEARD_BYTES = 4 << 20; // 2 minutes, more than an utterance and its delay; beyond it the oldest audio is given up

/** Audio (Uint8Array of 16-bit mono samples) and the messages between it (strings), in order. */
export class Replay {
  #messages = []; // {end: bytes of audio up to here, message}
  #end = 0;
  #held = 0;
  #heard = []; // audio that is acknowledged, newer than what is finished, as in #messages
  #heardBytes = 0;
  #finished = 0; // bytes

  /** It is about to be sent. False: there is no room for it. */
  add(message) {
    if (this.#held + message.length > HELD_BYTES) return false;
    if (typeof message !== "string") this.#end += message.length;
    this.#held += message.length;
    this.#messages.push({ end: this.#end, message });
    return true;
  }

  /** The server has so many samples. Messages that stand right behind them may not have come yet. */
  acknowledge(samples) {
    const heard = 2 * samples;
    while (this.#messages.length && this.#messages[0].end <= heard) {
      const { end, message } = this.#messages[0];
      if (end === heard && typeof message === "string") break;
      this.#messages.shift();
      this.#held -= message.length;
      if (typeof message === "string") continue;
      this.#heard.push({ end, message });
      this.#heardBytes += message.length;
    }
    this.#forget();
  }

  /** No text will come any more of audio before this sample. */
  finish(sample) {
    this.#finished = Math.max(this.#finished, 2 * Math.floor(sample));
    this.#forget();
  }

  /** The audio that no text is certain of, and from which sample on it is. */
  unfinished() {
    const audio = [...this.#heard, ...this.#messages].filter(({ message }) => typeof message !== "string");
    const rest = audio.filter(({ end }) => end > this.#finished);
    const parts = rest.map(({ end, message }) => message.subarray(Math.max(0, this.#finished - (end - message.length))));
    return { parts, from: (this.#end - parts.reduce((sum, part) => sum + part.length, 0)) / 2 };
  }

  #forget() {
    while (this.#heard.length && (this.#heard[0].end <= this.#finished || this.#heardBytes > HEARD_BYTES)) {
      this.#heardBytes -= this.#heard.shift().message.length;
    }
  }

  /** What to send again to a server that has so many samples. */
  since(samples) {
    this.acknowledge(samples);
    const heard = 2 * samples;
    const rest = [];
    for (const { end, message } of this.#messages) {
      if (typeof message === "string") rest.push(message);
      else if (end > heard) rest.push(message.subarray(Math.max(0, heard - (end - message.length))));
    }
    return rest;
  }
}
