// The page: what its buttons do, and what it says about the session.

import { canListen, canShareTab, CaptureProblem, microphones, openFile, openMicrophone, openTab } from "./capture.js";
import { explained, RETRIED } from "./messages.js";
import { reader } from "./reader.js";
import { dial, Problem, Stream } from "./stream.js";

const SILENT_S = 3; // of nothing but zeros: no real microphone is so quiet
const RETRY_S = 5; // where the server does not say
const MOST_PENDING = 600; // blocks: a minute
const FINISH_MS = 15_000; // for the last words after Stop
const STATES = {
  idle: "Ready",
  opening: "Waiting for the browser",
  connecting: "Connecting",
  waiting: "Waiting for a place",
  live: "Listening",
  reconnecting: "Reconnecting",
  finishing: "Finishing",
};

const $ = (id) => document.getElementById(id);
const captions = reader();
let state = "idle";
let capture = null;
let stream = null;
let token = sessionStorage.getItem("xlsr-live.token") ?? "";
let retry = null; // timer
let base = 0; // seconds of audio before this session
let samples = 0; // of this session
let length = null; // of this session, as the server tells it at the end, seconds
let pending = []; // sound that no session has got yet
let zeros = 0; // samples in a row

// ── what is shown ──

function enter(next) {
  state = next;
  if (next === "idle") captions.settle();
  document.body.dataset.state = next;
  $("status").textContent = STATES[next];
  const going = next !== "idle";
  $("start").textContent = going && next !== "finishing" ? "Stop" : "Start";
  $("start").disabled = next === "finishing";
  $("sources").disabled = going;
  $("clear").hidden = going || captions.empty;
  $("hint-idle").hidden = going;
  $("hint-opening").hidden = next !== "opening";
  $("hint-going").hidden = !going || next === "opening";
  if (!going || next === "finishing") {
    level(0);
    $("lag").textContent = "";
  }
}

function say(problem, kind = "problem") {
  const { title, text } = explained(problem);
  notice(title, text, kind);
  $("token-form").hidden = !["unauthorized", "wrong_token"].includes(problem.code);
  if (!$("token-form").hidden) $("token").focus();
}

function notice(title, text, kind = "problem") {
  $("notice").dataset.kind = kind;
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("token-form").hidden = true;
  $("notice").hidden = false;
}

function quiet() {
  $("notice").hidden = true;
  $("countdown").textContent = "";
}

function level(part) {
  $("level").style.transform = `scaleX(${part.toFixed(3)})`;
}

function lag(seconds) {
  $("lag").textContent = `${seconds.toFixed(1)} s behind`;
}

async function listMicrophones() {
  const found = await microphones();
  const chosen = $("device").value;
  $("device").replaceChildren(new Option("Default microphone", ""), ...found.map(({ id, name }) => new Option(name, id)));
  $("device").value = found.some(({ id }) => id === chosen) ? chosen : "";
}

function source() {
  return document.querySelector("input[name=source]:checked").value;
}

function chooseSource() {
  $("device-row").hidden = source() !== "microphone";
  $("file-row").hidden = source() !== "file";
}

// ── a session ──

async function start() {
  quiet();
  if (source() === "file" && !$("file").files.length) return say({ code: "no_file" });
  enter("opening");
  try {
    if (source() === "microphone") capture = await openMicrophone($("device").value);
    else if (source() === "tab") capture = await openTab();
    else capture = await openFile($("file").files[0]);
  } catch (problem) {
    enter("idle");
    if (!(problem instanceof CaptureProblem)) throw problem;
    return say(problem);
  }
  if (state !== "opening") return release(); // stopped meanwhile
  pending = [];
  listMicrophones();
  await connect();
}

/** Begin a session with the sound there is. */
async function connect() {
  enter("connecting");
  const first = { sample_rate: capture.rate, share: $("share-on").checked };
  try {
    const opened = await Stream.open(() => dial(token), first, { told, changed, over });
    if (state !== "connecting") return opened.close();
    stream = opened;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (state === "connecting") refused(problem);
    return;
  }
  samples = 0;
  length = null;
  pending.splice(0).forEach(send);
  if (!capture.started) capture.start(heard, ended);
  capture.started = true;
}

function send(bytes) {
  samples += bytes.length / 2;
  stream.send(bytes);
}

function refused(problem) {
  if (!RETRIED.has(problem.code)) {
    release();
    enter("idle");
    if (problem.code === "unauthorized" && token) problem.code = "wrong_token";
    return say(problem);
  }
  say(problem, "waiting");
  enter("waiting");
  let left = Math.ceil(problem.retryAfter ?? RETRY_S);
  const count = () => {
    $("countdown").textContent = `Trying again in ${left} s.`;
    if (left <= 0) {
      quiet();
      return connect();
    }
    left -= 1;
    retry = setTimeout(count, 1_000);
  };
  count();
}

function heard(block) {
  if (state === "finishing" || state === "idle") return;
  let loudest = 0;
  for (const sample of block) loudest = Math.max(loudest, Math.abs(sample));
  level(loudest ? Math.max(0, 1 + (20 * Math.log10(loudest / 32768)) / 60) : 0); // 60 dB
  zeros = loudest ? 0 : zeros + block.length;
  if (loudest && !$("notice").hidden && $("notice").dataset.kind === "silent") quiet();
  if (zeros > SILENT_S * capture.rate && $("notice").hidden && source() === "microphone") {
    notice("There is no sound", "The microphone gives nothing at all: it may be muted.", "silent");
  }
  const bytes = new Uint8Array(block.buffer);
  if (stream) return send(bytes);
  pending.push(bytes);
  pending.splice(0, pending.length - MOST_PENDING);
}

function told(event) {
  switch (event.type) {
    case "session_started":
      enter("live");
      shared(event.share);
      break;
    case "partial":
      lag(Math.max(0, samples / capture.rate - event.audio_s));
      break;
    case "session_ended":
      length = event.audio_s;
      break;
    case "warning":
      say(event);
      break;
  }
  captions.tell(event, base);
}

function changed(now) {
  if (state === "finishing") return;
  enter(now);
  if (now === "live") quiet();
  else notice("The connection is interrupted", "Go on speaking: nothing is lost, the text comes when it is back.", "waiting");
}

function over(problem) {
  const last = stream;
  stream = null;
  shared(null);
  if (problem?.code === "resume_lost" && state === "reconnecting") {
    // The server has forgotten the session: another one hears again what this one had not finished. Its text takes
    // the place of what stands there unfinished.
    const { parts, from } = last.unfinished();
    base += from / capture.rate;
    pending = parts;
    quiet();
    connect();
    return;
  }
  base += length ?? samples / capture.rate;
  release();
  enter("idle");
  if (problem) say(problem);
  else if ($("notice").dataset.kind !== "problem") quiet();
}

/** The sound has ended by itself. */
function ended() {
  if (source() === "microphone") say({ code: "microphone_gone" });
  finish();
}

function finish() {
  if (stream) {
    enter("finishing");
    capture.stop();
    const ending = stream;
    ending.end();
    setTimeout(() => stream === ending && ending.close(), FINISH_MS);
  } else {
    release();
    enter("idle");
  }
}

function stop() {
  clearTimeout(retry);
  quiet();
  finish();
}

function release() {
  capture?.stop();
  capture = null;
}

// ── others who watch ──

function shared(key) {
  $("links").hidden = !key;
  $("share").classList.toggle("on", !!key);
  if (!key) return;
  for (const page of ["view", "overlay"]) {
    const link = new URL(page, document.baseURI);
    link.hash = key;
    $(`${page}-link`).href = $(`${page}-link`).textContent = link.href;
  }
  $("local-only").hidden = !["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
}

for (const page of ["view", "overlay"]) {
  $(`copy-${page}`).onclick = async () => {
    await navigator.clipboard.writeText($(`${page}-link`).href);
    $("copied").textContent = "Copied.";
  };
}

// ── buttons ──

$("start").onclick = () => (state === "idle" ? start() : stop());
$("clear").onclick = () => {
  captions.clear();
  base = 0;
  $("clear").hidden = true;
};
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("xlsr-live.token", token); // until the tab is closed
  start();
};
$("notice-close").onclick = quiet;
document.querySelectorAll("input[name=source]").forEach((radio) => (radio.onchange = chooseSource));
navigator.mediaDevices?.addEventListener("devicechange", listMicrophones);
addEventListener("beforeunload", (event) => {
  if (stream) event.preventDefault();
});

if (!canShareTab()) $("source-tab").disabled = true;
if (!canListen()) {
  $("source-microphone").disabled = true;
  $("source-file").checked = true;
  say({ code: "insecure" });
}
chooseSource();
listMicrophones();
enter("idle");
