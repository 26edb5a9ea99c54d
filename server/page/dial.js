// Connecting: a websocket with a ticket, or the reason why there is none.

const OPEN_MS = 10_000; // to connect

/** Why there is no session (any more); `code` is one of the protocol, or `unreachable`, `lost`. */
export class StreamError extends Error {
  constructor(code, message = "", retryAfter = null) {
    super(message);
    this.code = code;
    this.retryAfter = retryAfter; // seconds
  }
}

/**
 * Open a websocket; one that `resumes` a session needs no free place. Throws `StreamError`. Asks over HTTP first:
 * browsers hide from pages why a websocket was refused.
 */
export async function dial(token, resumes = false) {
  const http = new URL(resumes ? "v1/stream?resume=1" : "v1/stream", document.baseURI);
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
