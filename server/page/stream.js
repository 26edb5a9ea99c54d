// The native protocol (docs/protocol.md): one session over any number of connections. After a broken connection, audio
// that the server has not received is sent again, and the events continue where they stopped.

import { Replay } from "./replay.js";

const OPEN_MS = 10_000; // to connect
const DEAD_MS = 8_000; // without any message while audio is sent, not even an acknowledgement: the network is gone
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;
const RESUME_MS = 8 * 60_000; // as long as audio can be stored; the server ends it earlier
const FINAL = new Set(["unauthorized", "forbidden_origin", "not_found", "resume_lost"]);

/** Why there is no session (any more); `code` is one of the protocol, or `unreachable`, `lost`. */
export class StreamError extends Error {
  constructor(code, message = "", retryAfter = null) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter; // seconds
  }
}

/**
 * Open a websocket. Throws `StreamError`. Asks over HTTP first: browsers hide from pages why a websocket was refused.
 */
export async function dial(token) {
  const http = new URL("v1/stream", document.baseURI);
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await request(http, { headers });
  if (response.status !== 204) throw await refusal(response);
  const protocols = ["xlsr-live"];
  if (token) {
    const issued = await request(new URL("v1/ticket", document.baseURI), { method: "POST", headers });
    if (!issued.ok) throw await refusal(issued);
    protocols.push(`xlsr-live.ticket.${(await issued.json()).ticket}`);
  }
  const address = new URL(http);
  address.protocol = http.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, protocols);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => {
    const timeout = setTimeout(() => socket.close(), OPEN_MS);
    socket.onopen = () => (clearTimeout(timeout), resolve());
    socket.onclose = () => (clearTimeout(timeout), reject(new StreamError("unreachable")));
  });
  return socket;
}

async function request(address, options) {
  try {
    return await fetch(address, { ...options, cache: "no-store", signal: AbortSignal.timeout(OPEN_MS) });
  } catch {
    throw new StreamError("unreachable");
  }
}

async function refusal(response) {
  const { code, message } = await response.json().catch(() => ({ code: "unreachable", message: "" }));
  const seconds = Number(response.headers.get("retry-after"));
  return new StreamError(code, message, seconds > 0 ? seconds : null);
}

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
  #replay = new Replay();
  #rate;
  #error = null; // the last error event
  #lastMessage = performance.now(); // from the server
  #waiting = false; // audio was sent and no message has come since
  #disconnected = false;
  #ended = false;
  #watch;

  /** Start a session; `start` is the protocol's first message. Throws `StreamError`. */
  static async open(connect, start, listener) {
    return new Stream(connect, await connect(), start, listener);
  }

  constructor(connect, socket, start, listener) {
    this.#dial = connect;
    this.#listener = listener;
    this.#rate = start.sample_rate;
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

  /** Close at once. */
  close() {
    this.#finish(null);
    this.#socket.close();
  }

  /** The audio without a final, and its first sample: {parts, from}. */
  unfinished() {
    return this.#replay.unfinished();
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
    socket.onclose = ({ code, reason }) => {
      if (this.#ended || this.#disconnected) return;
      if (code === 1006 && this.#token) this.#reconnect(); // no close frame: the connection broke
      else this.#finish(this.#error ?? new StreamError("lost", reason));
    };
  }

  #receive(event) {
    this.#lastMessage = performance.now();
    this.#waiting = false;
    if (event.type === "ack") return this.#replay.acknowledge(event.received);
    this.#seen += 1;
    if (event.type === "session_started") this.#token = event.resume ?? null;
    if (event.type === "final" || event.type === "speech_ended") this.#replay.finish(event.end * this.#rate);
    if (event.type === "error") this.#error = new StreamError(event.code, event.message);
    this.#listener.onEvent(event);
    if (event.type === "session_ended") this.#finish(this.#error);
  }

  #check() {
    if (this.#waiting && !this.#disconnected && this.#token && performance.now() - this.#lastMessage > DEAD_MS) this.#reconnect();
  }

  #offline = () => {
    if (!this.#disconnected && !this.#ended && this.#token) this.#reconnect();
  };

  async #reconnect() {
    this.#disconnected = true;
    this.#listener.onState("reconnecting");
    // Not closed yet: a close frame that still arrives would end the session.
    const old = this.#socket;
    old.onmessage = old.onclose = null;
    const deadline = performance.now() + RESUME_MS;
    for (let pause = FIRST_PAUSE_MS; !this.#ended; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
      try {
        await this.#resume(await this.#dial());
        break;
      } catch (error) {
        if (!(error instanceof StreamError)) throw error;
        if (FINAL.has(error.code) || performance.now() + pause > deadline) this.#finish(error);
      }
      if (!this.#ended) await pauseOrOnline(pause * (0.5 + Math.random())); // spreads the clients of one server
    }
    old.close();
  }

  async #resume(socket) {
    socket.send(JSON.stringify({ type: "start", resume: this.#token, events: this.#seen }));
    const first = await new Promise((resolve, reject) => {
      const timeout = setTimeout(() => socket.close(), OPEN_MS);
      socket.onmessage = ({ data }) => {
        clearTimeout(timeout);
        socket.onmessage = null;
        this.#attach(socket); // before the next message can come
        resolve(JSON.parse(data));
      };
      socket.onclose = () => reject(new StreamError("lost"));
    });
    if (first.type !== "session_resumed") {
      socket.onmessage = socket.onclose = null;
      socket.close();
      throw new StreamError(first.code ?? "lost", first.message);
    }
    if (this.#ended) return socket.close();
    for (const message of this.#replay.since(first.received)) socket.send(message);
    this.#disconnected = false;
    this.#listener.onState("live");
  }

  #finish(error) {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#watch);
    removeEventListener("offline", this.#offline);
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
