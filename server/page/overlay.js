// Captions over video, as a browser source in OBS: `overlay?OPTIONS#KEY` follows a shared session, `overlay?capture=1`
// listens to this computer's microphone.

import { openMicrophone, CaptureError } from "./capture.js";
import { Captions } from "./captions.js";
import { follow } from "./follow.js";
import { describe } from "./messages.js";
import { dial, StreamError } from "./dial.js";
import { Stream } from "./stream.js";

const RETRY_MS = 5_000; // an overlay has no button
const options = new URLSearchParams(location.search);
const key = location.hash.slice(1);
const box = document.getElementById("captions");
const help = document.getElementById("help");
const root = document.documentElement;

const number = (name, low, high, fallback) => {
  const value = Number(options.get(name) ?? fallback);
  return value >= low && value <= high ? value : fallback;
};
const valid = (property, value) => value && CSS.supports(property, value);

root.style.setProperty("--size", `${number("size", 8, 400, 48)}px`);
root.style.setProperty("--lines", number("lines", 1, 10, options.get("translation") ? 4 : 2));
root.style.setProperty("--widest", number("width", 5, 100, 24));
for (const [name, property] of [["color", "color"], ["background", "background-color"], ["font", "font-family"]]) {
  if (valid(property, options.get(name))) root.style.setProperty(`--${name}`, options.get(name));
}
if (options.get("align") === "left") {
  root.style.setProperty("--align", "0 auto 0 0");
  root.style.setProperty("--text-align", "left");
}
if (options.get("position") === "top") root.dataset.position = "top";
if (options.get("original") === "0") root.dataset.original = "0";
if (options.get("volatile") === "0") root.dataset.volatile = "0";

const captions = new Captions(box);
const translation = options.get("translation") ?? "";
captions.setStyle({ mode: "captions", sentence: options.get("sentence") !== "0", translation });
const hold = number("hold", 0, 3600, 8); // seconds after which the last text fades
let fadeTimer;

function onEvent(event) {
  captions.handle(event);
  if (!["partial", "final", "translation"].includes(event.type)) return;
  help.hidden = true;
  box.classList.remove("old");
  clearTimeout(fadeTimer);
  if (hold) fadeTimer = setTimeout(() => box.classList.add("old"), 1000 * hold);
}

function showHelp(title, text) {
  help.textContent = `${title}. ${text}`;
  help.hidden = false;
}

function watch() {
  follow(key, {
    onEvent,
    onState: (state) => (state === "full" ? showHelp("Too many people are reading along", "Trying again.") : (help.hidden = true)),
    onEnd: (valid) => valid || showHelp("This link is not valid (any more)", "Copy a new one from the captions page."),
  });
}

async function listen() {
  let capture = null;
  const onEnd = (error) => {
    capture?.stop();
    captions.finishOpen();
    if (error) {
      const { title, text } = describe(error);
      showHelp(title, text);
    }
    setTimeout(listen, RETRY_MS);
  };
  try {
    capture = await openMicrophone("");
    const started = { sample_rate: capture.rate, config: { translate_to: translation ? [translation] : [] } };
    const stream = await Stream.open((resumes) => dial("", resumes), started, { onEvent, onState: () => {}, onEnd });
    help.hidden = true;
    capture.start(
      (block) => stream.send(new Uint8Array(block.buffer)),
      () => stream.end(),
    );
  } catch (error) {
    if (!(error instanceof StreamError || error instanceof CaptureError)) throw error;
    onEnd(error);
  }
}

addEventListener("hashchange", () => location.reload());
if (key) watch();
else if (options.get("capture") === "1") listen();
else showHelp("This is the overlay for OBS", "Start captions with “Share” switched on, and copy the link for OBS from there.");
