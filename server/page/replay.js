// What was sent and the server may not have heard: to be sent again when a connection has broken.

export const HELD_BYTES = 16 << 20; // 9 minutes of 16 kHz 16-bit mono; beyond it the oldest audio is given up

/** Audio (Uint8Array of 16-bit mono samples) and the messages between it (strings), in order. */
export class Replay {
  #messages = []; // {end: bytes of audio up to here, message}
  #end = 0;
  #held = 0;

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
      if (end === heard && typeof message === "string") return;
      this.#messages.shift();
      this.#held -= message.length;
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
