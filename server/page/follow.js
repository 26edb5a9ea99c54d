// The events of a shared session, by its key. The browser reconnects by itself and sends the last id that it has.

const RETRY_MS = 5_000; // after a response on which the browser gives up

/**
 * `onEvent` gets the events, `onState` "live", "reconnecting" or "full"; `onEnd` is called once, with whether the key was
 * valid.
 */
export function follow(key, { onEvent, onState, onEnd }) {
  const address = new URL(`v1/shared/${encodeURIComponent(key)}`, document.baseURI);
  let seen = 0; // id of the last final or translation
  let valid = false;

  function open() {
    const source = new EventSource(address);
    source.onopen = () => {
      valid = true;
      onState("live");
    };
    source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      if (event.type === "final" || event.type === "translation") {
        if (Number(lastEventId) <= seen) return;
        seen = Number(lastEventId);
      }
      onEvent(event);
      if (event.type === "session_ended") {
        source.close();
        onEnd(true);
      }
    };
    source.onerror = async () => {
      if (source.readyState !== EventSource.CLOSED) return onState("reconnecting");
      const abort = new AbortController(); // only the status matters
      const { status } = await fetch(address, { signal: abort.signal, cache: "no-store" }).catch(() => ({ status: 0 }));
      abort.abort();
      if (status === 404) return onEnd(valid);
      onState(status === 503 ? "full" : "reconnecting");
      setTimeout(open, RETRY_MS);
    };
  }

  open();
}
