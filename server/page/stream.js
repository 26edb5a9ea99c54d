// The native protocol (docs/protocol.md): one session over one connection after the other. A connection that breaks is
// made again; audio that the server has not heard is sent again, and the events go on where they stopped.

import { Replay } from "./replay.js";

const OPEN_MS = 10_000; // for a connection
const DEAD_MS = 8_000; // audio goes out and nothing comes back, not even an acknowledgement: the network is gone
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const PATIENCE_MS = 8 * 60_000; // as long as audio can be kept; the server says earlier if it has given up
const FINAL = new Set(["unauthorized", "forbidden_origin", "not_found", "resume_lost"]);

/** Why there is no session (any more); `code` is the protocol's, or `unreachable`, `lost`. */
export class Problem extends Error {
  constructor(code, message = "", retryAfter = null) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter; // seconds
  }
}

/** Open a websocket. Raises `Problem`: a websocket does not tell a page why it was refused, plain HTTP does. */
export async function dial(token) {
  const http = new URL("v1/stream", document.baseURI);
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await ask(http, { headers });
  if (answer.status !== 204) throw await refusal(answer);
  const protocols = ["xlsr-live"];
  if (token) {
    const issued = await ask(new URL("v1/ticket", document.baseURI), { method: "POST", headers });
    if (!issued.ok) throw await refusal(issued);
    protocols.push(`xlsr-live.ticket.${(await issued.json()).ticket}`);
  }
  const address = new URL(http);
  address.protocol = http.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address, protocols);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve, reject) => {
    const late = setTimeout(() => socket.close(), OPEN_MS);
    socket.onopen = () => (clearTimeout(late), resolve());
    socket.onclose = () => (clearTimeout(late), reject(new Problem("unreachable")));
  });
  return socket;
}

async function ask(address, options) {
  try {
    return await fetch(address, { ...options, cache: "no-store", signal: AbortSignal.timeout(OPEN_MS) });
  } catch {
    throw new Problem("unreachable");
  }
}

async function refusal(answer) {
  const { code, message } = await answer.json().catch(() => ({ code: "unreachable", message: "" }));
  const seconds = Number(answer.headers.get("retry-after"));
  return new Problem(code, message, seconds > 0 ? seconds : null);
}

/** One session. `told` gets its events, `changed` "live" or "reconnecting", `over` null or the `Problem` that ended it. */
export class Stream {
  #dial;
  #listener;
  #socket;
  #token = null; // for coming back
  #seen = 0; // events
  #replay = new Replay();
  #rate;
  #error = null; // the last that the server told
  #heard = performance.now(); // when the server last said something
  #waiting = false; // for the server's word about audio
  #away = false;
  #ended = false;
  #watch;

  /** Start a session; `start` is the protocol's first message. Raises `Problem`. */
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

  /** Send samples (Uint8Array, 16 bit). What does not go out now goes out when the connection is back. */
  send(audio) {
    if (this.#ended || !this.#replay.add(audio)) return;
    if (this.#away) return;
    if (!this.#waiting) this.#heard = performance.now();
    this.#waiting = true;
    this.#socket.send(audio);
  }

  /** No more audio; the rest of the events follows. */
  end() {
    const message = '{"type":"end"}';
    if (this.#ended) return;
    this.#replay.add(message);
    if (!this.#away) this.#socket.send(message);
  }

  /** Leave at once. */
  close() {
    this.#over(null);
    this.#socket.close();
  }

  /** Audio since the last utterance that is over, and from which sample on it is: {parts, from}. */
  unfinished() {
    return this.#replay.unfinished();
  }

  #attach(socket) {
    this.#socket = socket;
    this.#heard = performance.now();
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      if (this.#ended || this.#away) return;
      if (code === 1006 && this.#token) this.#comeBack(); // no closing frame: the connection broke
      else this.#over(this.#error ?? new Problem("lost", reason));
    };
  }

  #hear(event) {
    this.#heard = performance.now();
    this.#waiting = false;
    if (event.type === "ack") return this.#replay.acknowledge(event.received);
    this.#seen += 1;
    if (event.type === "session_started") this.#token = event.resume ?? null;
    if (event.type === "final" || event.type === "speech_ended") this.#replay.finish(event.end * this.#rate);
    if (event.type === "error") this.#error = new Problem(event.code, event.message);
    this.#listener.told(event);
    if (event.type === "session_ended") this.#over(this.#error);
  }

  #check() {
    if (this.#waiting && !this.#away && this.#token && performance.now() - this.#heard > DEAD_MS) this.#comeBack();
  }

  #offline = () => {
    if (!this.#away && !this.#ended && this.#token) this.#comeBack();
  };

  async #comeBack() {
    this.#away = true;
    this.#listener.changed("reconnecting");
    // Not closed yet: a closing frame that still got through would end the session.
    const old = this.#socket;
    old.onmessage = old.onclose = null;
    const until = performance.now() + PATIENCE_MS;
    for (let pause = FIRST_PAUSE_MS; !this.#ended; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        await this.#resume(await this.#dial());
        break;
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        if (FINAL.has(problem.code) || performance.now() + pause > until) this.#over(problem);
      }
      if (!this.#ended) await pauseOrOnline(pause * (0.5 + Math.random())); // not all clients of a server at once
    }
    old.close();
  }

  async #resume(socket) {
    socket.send(JSON.stringify({ type: "start", resume: this.#token, events: this.#seen }));
    const first = await new Promise((resolve, reject) => {
      const late = setTimeout(() => socket.close(), OPEN_MS);
      socket.onmessage = ({ data }) => {
        clearTimeout(late);
        socket.onmessage = null;
        this.#attach(socket); // before the next message can come
        resolve(JSON.parse(data));
      };
      socket.onclose = () => reject(new Problem("lost"));
    });
    if (first.type !== "session_resumed") {
      socket.onmessage = socket.onclose = null;
      socket.close();
      throw new Problem(first.code ?? "lost", first.message);
    }
    if (this.#ended) return socket.close();
    for (const message of this.#replay.since(first.received)) socket.send(message);
    this.#away = false;
    this.#listener.changed("live");
  }

  #over(problem) {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#watch);
    removeEventListener("offline", this.#offline);
    this.#listener.over(problem);
  }
}

function pauseOrOnline(milliseconds) {
  return new Promise((resolve) => {
    const done = () => (clearTimeout(timer), removeEventListener("online", done), resolve());
    const timer = setTimeout(done, milliseconds);
    addEventListener("online", done);
  });
}
