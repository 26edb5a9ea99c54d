// The native protocol (docs/protocol.md): one session over any number of connections. After a broken connection, audio
// that the server has not received is sent again, and the events continue where they stopped. If the server is gone or
// will stop, another one continues the session.

import { StreamError } from "./dial.js";
import { Replay } from "./replay.js";

const OPEN_MS = 10_000; // for the first answer
const DEAD_MS = 8_000; // without any message while audio is sent, not even an acknowledgement: the network is gone
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
const RESUME_MS = 8 * 60_000; // as long as audio can be stored; the server ends it earlier
const GOING_AWAY = 1001; // close code of a server that stops
const MOVE_ANYWAY_MS = 3_000; // before it takes no more audio: also in the middle of an utterance
const RETRY_MOVE_MS = 500;
const FINAL = new Set(["unauthorized", "forbidden_origin", "not_found", "resume_lost", "bad_config", "bad_model"]);

/**
 * One session. `onEvent` gets its events, `onState` "live" or "reconnecting", `onEnd` null or the `StreamError` that ended
 * it.
 */
export class Stream {
  #dial;
  #listener;
  #socket;
  #token = null; // to resume the session
  #seen = 0; // received events
  #start; // the first message
  #replay;
  #position = { utterance: 0, final_end: 0 }; // of what is final, for another server
  #open = false; // whether an utterance is open
  #held = []; // a final and what follows it, until its utterance ends
  #leaveBy = null; // when a server that will stop takes no more audio
  #leaving = false;
  #error = null; // the last error event
  #lastMessage = performance.now(); // from the server
  #waiting = false; // audio was sent and no message has come since
  #disconnected = false;
  #ended = false;
  #watch;

  /** Start a session; `start` is the protocol's first message, `connect` opens a websocket and gets whether to resume over
   * it. Throws `StreamError`. */
  static async open(connect, start, listener) {
    return new Stream(connect, await connect(), start, listener);
  }

  constructor(connect, socket, start, listener) {
    this.#dial = connect;
    this.#listener = listener;
    this.#start = start;
    this.#replay = new Replay(start.config);
    this.#attach(socket);
    socket.send(JSON.stringify({ type: "start", ...start }));
    this.#watch = setInterval(() => this.#check(), 1_000);
    addEventListener("offline", this.#offline);
  }

  /** Send samples (Uint8Array, 16 bit). Without a connection they are sent when it is back. */
  send(audio) {
    if (this.#ended || !this.#replay.add(audio)) return;
    if (this.#disconnected) return;
    if (!this.#waiting) this.#lastMessage = performance.now();
    this.#waiting = true;
    this.#socket.send(audio);
  }

  /** No more audio; the remaining events follow. */
  end() {
    this.#sendText({ type: "end" });
  }

  /** The choice of language for utterances that begin from here on, as in `config`; null for the model's default. */
  setLanguage(choice) {
    this.#sendText({ type: "set_language", language: null, ...choice });
  }

  /** Let others read along; called again, it changes the title. The event `shared` has the key. */
  share(title) {
    this.#sendText({ type: "share", title });
  }

  /** Void the key; the event `shared` without one follows. */
  unshare() {
    this.#sendText({ type: "share", on: false });
  }

  /** Close at once. */
  close() {
    this.#finish(null);
    this.#socket.close();
  }

  #sendText(content) {
    const message = JSON.stringify(content);
    if (this.#ended) return;
    this.#replay.add(message);
    if (!this.#disconnected) this.#socket.send(message);
  }

  #attach(socket) {
    this.#socket = socket;
    this.#lastMessage = performance.now();
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = (event) => this.#closed(event);
  }

  #closed({ code, reason }) {
    if (this.#ended || this.#disconnected) return;
    if (code === 1006 && this.#token) this.#reconnect(); // no close frame: the connection broke
    else if (code === GOING_AWAY && this.#replay.complete) this.#reconnect(true);
    else this.#finish(this.#error ?? new StreamError("lost", reason));
  }

  #receive(event) {
    this.#lastMessage = performance.now();
    this.#waiting = false;
    if (event.type === "ack") this.#replay.acknowledge(event.received, event.safe);
    else this.#take(event);
    if (this.#mayLeave()) this.#leave();
  }

  #take(event) {
    this.#seen += 1;
    if (event.type === "session_started" || event.type === "session_moved") {
      this.#token = event.resume ?? null;
      this.#replay.keeps = event.movable ?? false;
      if (!this.#token) this.#replay.disable(); // the server acknowledges nothing
      if (event.movable) this.#socket.send(JSON.stringify({ type: "movable" }));
    }
    if (event.type === "speech_started") this.#open = true;
    if (event.type === "language" && event.language !== "und") this.#position.language = event.language;
    if (event.type === "speech_ended") {
      this.#open = false;
      Object.assign(this.#position, { utterance: event.utterance + 1, final_end: event.end });
    }
    if (event.type === "moving") this.#leaveBy = performance.now() + 1_000 * event.within_s;
    if (event.type === "error") this.#error = new StreamError(event.code, event.message);
    // Hold a final until its utterance ends: if the server vanishes in between, another one sends the final again.
    this.#held.push(event);
    const ends = ["speech_ended", "session_ended", "error"].includes(event.type);
    if (this.#held[0].type === "final" && !ends) return;
    for (const each of this.#held.splice(0)) this.#listener.onEvent(each);
    if (event.type === "session_ended") this.#finish(this.#error);
  }

  #check() {
    if (this.#waiting && !this.#disconnected && !this.#leaving && this.#token && performance.now() - this.#lastMessage > DEAD_MS) this.#reconnect();
  }

  #offline = () => {
    if (!this.#disconnected && !this.#leaving && !this.#ended && this.#token) this.#reconnect();
  };

  /** Connect again and resume the session; if its server is `gone`, continue it on another. */
  async #reconnect(gone = false) {
    this.#disconnected = true;
    this.#listener.onState("reconnecting");
    // Not closed yet: a close frame that still arrives would end the session.
    const old = this.#socket;
    old.onmessage = old.onclose = null;
    const deadline = performance.now() + RESUME_MS;
    for (let pause = FIRST_PAUSE_MS; !this.#ended; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      try {
        await (gone ? this.#move(await this.#dial()) : this.#resume(await this.#dial(true)));
        break;
      } catch (error) {
        if (!(error instanceof StreamError)) throw error;
        if (error.code === "resume_lost" && this.#replay.complete) {
          gone = true;
          continue;
        }
        if (["bad_config", "bad_model"].includes(error.code) && this.#replay.changed) {
          this.#replay.reset(); // of a language that the server had refused
          continue;
        }
        if (FINAL.has(error.code) || performance.now() + pause > deadline) this.#finish(error);
      }
      if (!this.#ended) await pauseOrOnline(pause * (0.5 + Math.random())); // spreads the clients of one server
    }
    old.close();
  }

  #resume(socket) {
    const first = { type: "start", resume: this.#token, events: this.#seen };
    return this.#greet(socket, first, "session_resumed", ({ received }) => {
      for (const message of this.#replay.since(received)) socket.send(message);
    });
  }

  /** Continue the session on another server, which begins with the safe sample. */
  #move(socket) {
    const origin = { sample: this.#replay.safe, ...this.#position };
    const first = { type: "start", ...this.#start, config: this.#replay.config, origin, events: this.#seen };
    return this.#greet(socket, first, "session_moved", (moved) => {
      this.#leaveBy = null;
      this.#held = []; // the other server gives this final again
      for (const message of this.#replay.restart()) socket.send(message);
      this.#take(moved);
    });
  }

  /** Send the first message over a new connection; `accept` takes the answer before the next message can come. */
  #greet(socket, first, answer, accept) {
    socket.send(JSON.stringify(first));
    return new Promise((resolve, reject) => {
      const timeout = setTimeout(() => socket.close(), OPEN_MS);
      socket.onclose = () => (clearTimeout(timeout), reject(new StreamError("lost")));
      socket.onmessage = ({ data }) => {
        clearTimeout(timeout);
        const event = JSON.parse(data);
        socket.onmessage = socket.onclose = null;
        if (this.#ended || event.type !== answer) {
          socket.close();
          return this.#ended ? resolve() : reject(new StreamError(event.code ?? "lost", event.message));
        }
        const waited = this.#disconnected;
        this.#disconnected = false;
        this.#attach(socket);
        accept(event);
        if (waited) this.#listener.onState("live");
        return resolve();
      };
    });
  }

  /** Whether it is time to leave a server that will stop: between utterances, or at the last moment. */
  #mayLeave() {
    if (this.#leaveBy === null || this.#leaving || this.#ended || !this.#replay.complete) return false;
    return !this.#open || performance.now() >= this.#leaveBy - MOVE_ANYWAY_MS;
  }

  /** Move while the server still listens. If no other one takes the session now, go on and try again soon. */
  async #leave() {
    this.#leaving = true;
    const old = this.#socket;
    const missed = []; // calls of the handlers
    try {
      const socket = await this.#dial();
      if (this.#ended || this.#disconnected || this.#socket !== old) return socket.close();
      old.onmessage = ({ data }) => missed.push(() => this.#receive(JSON.parse(data)));
      old.onclose = (event) => missed.push(() => this.#closed(event));
      await this.#move(socket);
      old.onmessage = old.onclose = null;
      old.close();
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      if (this.#socket === old && !this.#disconnected) {
        this.#attach(old);
        for (const handle of missed) handle();
      }
      await pauseOrOnline(RETRY_MOVE_MS);
    } finally {
      this.#leaving = false;
    }
  }

  #finish(error) {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#watch);
    removeEventListener("offline", this.#offline);
    for (const each of this.#held.splice(0)) this.#listener.onEvent(each);
    this.#listener.onEnd(error);
  }
}

function pauseOrOnline(milliseconds) {
  return new Promise((resolve) => {
    const done = () => (clearTimeout(timer), removeEventListener("online", done), resolve());
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
  });
}
