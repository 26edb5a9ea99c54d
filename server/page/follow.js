// Reading along: the events of a shared session, by its key. The browser connects again by itself and says what it has.

const AGAIN_MS = 5_000; // after an answer that the browser takes as final

/** `told` gets events, `changed` "live", "reconnecting" or "full", `over` is called once at the end, with whether the key was good. */
export function follow(key, { told, changed, over }) {
  const address = new URL(`v1/shared/${encodeURIComponent(key)}`, document.baseURI);
  let seen = 0; // finals
  let good = false;

  function open() {
    const source = new EventSource(address);
    source.onopen = () => {
      good = true;
      changed("live");
    };
    source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      if (event.type === "final") {
        if (Number(lastEventId) <= seen) return;
        seen = Number(lastEventId);
      }
      told(event);
      if (event.type === "session_ended") {
        source.close();
        over(true);
      }
    };
    source.onerror = async () => {
      if (source.readyState !== EventSource.CLOSED) return changed("reconnecting");
      const leave = new AbortController(); // only the status is of interest
      const { status } = await fetch(address, { signal: leave.signal, cache: "no-store" }).catch(() => ({ status: 0 }));
      leave.abort();
      if (status === 404) return over(good);
      changed(status === 503 ? "full" : "reconnecting");
      setTimeout(open, AGAIN_MS);
    };
  }

  open();
}
