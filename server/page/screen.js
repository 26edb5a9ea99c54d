// The whole screen for the captions, and a screen that stays on.

const QUIET_MS = 3_000; // without pointer and keys, until the controls disappear

/** Let a button show the page on the whole screen; the controls disappear there while nobody uses them. */
export function fullScreen(button) {
  const root = document.documentElement;
  button.hidden = !document.fullscreenEnabled;
  button.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen());
  let timer = null;
  const wake = () => {
    clearTimeout(timer);
    root.classList.remove("quiet");
    if (document.fullscreenElement) timer = setTimeout(() => root.classList.add("quiet"), QUIET_MS);
  };
  for (const kind of ["pointermove", "pointerdown", "keydown", "fullscreenchange"]) document.addEventListener(kind, wake);
  document.addEventListener("fullscreenchange", () => {
    button.setAttribute("aria-pressed", String(!!document.fullscreenElement));
  });
}

let wanted = false;
let lock = null; // a promise of the lock

/** Keep the screen on, or let it go off again. Browsers do so only on secure pages. */
export function keepAwake(on) {
  wanted = on;
  if (!on) {
    lock?.then((held) => held?.release());
    lock = null;
  } else if (!lock && document.visibilityState === "visible") {
    lock = navigator.wakeLock?.request("screen").catch(() => null) ?? null; // a low battery, or not allowed
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") lock = null; // the browser has released it
  else keepAwake(wanted);
});
