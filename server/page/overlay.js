// Captions over a picture, as a browser source of OBS: `overlay?OPTIONS#KEY` follows a shared session,
// `overlay?capture=1` listens to this computer's microphone itself.

import { openMicrophone, CaptureProblem } from "./capture.js";
import { Captions } from "./captions.js";
import { follow } from "./follow.js";
import { explained } from "./messages.js";
import { dial, Problem, Stream } from "./stream.js";

const AGAIN_MS = 5_000; // nobody is there to press a button
const options = new URLSearchParams(location.search);
const key = location.hash.slice(1);
const box = document.getElementById("captions");
const help = document.getElementById("help");
const root = document.documentElement;

const number = (name, low, high, otherwise) => {
  const value = Number(options.get(name) ?? otherwise);
  return value >= low && value <= high ? value : otherwise;
};
const valid = (property, value) => value && CSS.supports(property, value);

root.style.setProperty("--size", `${number("size", 8, 400, 48)}px`);
root.style.setProperty("--lines", number("lines", 1, 10, 2));
root.style.setProperty("--widest", number("width", 5, 100, 24));
for (const [name, property] of [["color", "color"], ["background", "background-color"], ["font", "font-family"]]) {
  if (valid(property, options.get(name))) root.style.setProperty(`--${name}`, options.get(name));
}
if (options.get("align") === "left") root.style.setProperty("--align", "0 auto 0 0");
if (options.get("position") === "top") root.dataset.position = "top";
if (options.get("volatile") === "0") root.dataset.volatile = "0";

const captions = new Captions(box);
captions.look({ mode: "captions", sentence: options.get("sentence") !== "0" });
const hold = number("hold", 0, 3600, 8); // seconds that the last text stays
let fading;

function told(event) {
  captions.tell(event);
  if (!["partial", "final"].includes(event.type)) return;
  help.hidden = true;
  box.classList.remove("old");
  clearTimeout(fading);
  if (hold) fading = setTimeout(() => box.classList.add("old"), 1000 * hold);
}

function say(title, text) {
  help.textContent = `${title}. ${text}`;
  help.hidden = false;
}

function watch() {
  follow(key, {
    told,
    changed: (state) => (state === "full" ? say("Too many people are reading along", "Trying again.") : (help.hidden = true)),
    over: (good) => good || say("This link is not good (any more)", "Take a new one from the page that captions."),
  });
}

async function listen() {
  let capture = null;
  const failed = (problem) => {
    capture?.stop();
    captions.settle();
    if (problem) {
      const { title, text } = explained(problem);
      say(title, text);
    }
    setTimeout(listen, AGAIN_MS);
  };
  try {
    capture = await openMicrophone("");
    const started = { sample_rate: capture.rate };
    const stream = await Stream.open(() => dial(""), started, { told, changed: () => {}, over: failed });
    help.hidden = true;
    capture.start(
      (block) => stream.send(new Uint8Array(block.buffer)),
      () => stream.end(),
    );
  } catch (problem) {
    if (!(problem instanceof Problem || problem instanceof CaptureProblem)) throw problem;
    failed(problem);
  }
}

addEventListener("hashchange", () => location.reload());
if (key) watch();
else if (options.get("capture") === "1") listen();
else say("This is the overlay for OBS", "Start captions with “Share” switched on, and take the link for OBS from there.");
