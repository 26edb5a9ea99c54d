// The page for speakers: its buttons, its state, and its messages.

import { canListen, canShareTab, CaptureError, microphones, openFile, openMicrophone, openTab } from "./capture.js";
import { choices } from "./languages.js";
import { HINTS, RETRIED } from "./messages.js";
import { showModel, wantsPunctuation } from "./model.js";
import { hideNotice, showNotice, shownKind, showProblem } from "./notice.js";
import { reader } from "./reader.js";
import { keepAwake } from "./screen.js";
import { sharing, showLinks, wantedTitle } from "./share.js";
import { spoken } from "./spoken.js";
import { dial, StreamError } from "./dial.js";
import { Stream } from "./stream.js";
import { Transcript } from "./transcript.js";

const SILENT_S = 3; // of zeros: every real microphone has noise
const RETRY_S = 5; // if the server names no time
const MAX_PENDING = { waiting: 600, other: 6_000 }; // blocks of a tenth of a second: a minute for a place, else ten
const FINISH_MS = 15_000; // for the last words after Stop
const STATES = {
  idle: "Ready",
  opening: "Starting",
  connecting: "Starting",
  waiting: "Waiting for a place",
  live: "Listening",
  reconnecting: "Reconnecting",
  finishing: "Finishing",
};

const $ = (id) => document.getElementById(id);
const captions = reader();
const transcript = new Transcript(captions);
let state = "idle";
let capture = null;
let stream = null;
let token = sessionStorage.getItem("xlsr-live.token") ?? "";
let retryTimer = null;
let samples = 0; // of this session
let duration = null; // seconds of this session, from the server's last event
let pending = []; // blocks captured while there is no session
let zeros = 0; // samples in a row
let heard = false; // whether the first block is in: from there on nothing is lost

// ── display ──

function setState(next) {
  state = next;
  if (next === "idle") captions.finishOpen();
  document.body.dataset.state = next;
  showStatus();
  const running = next !== "idle";
  $("start").textContent = running && next !== "finishing" ? "Stop" : "Start";
  $("start").disabled = next === "finishing";
  $("sources").disabled = running;
  keepAwake(running);
  if (!running || next === "finishing") {
    showLevel(0);
    $("lag").textContent = "";
  }
}

/** The page listens from the first block, which may come before the connection. */
function showStatus() {
  const shown = ["connecting", "live"].includes(state) ? (heard ? "live" : "connecting") : state;
  $("status").textContent = STATES[shown];
  document.body.dataset.listening = shown === "live";
  const hints = HINTS[source()];
  $("hint-text").textContent = hints[shown] ?? hints.going;
}

function showLevel(part) {
  $("level").style.transform = `scaleX(${part.toFixed(3)})`;
}

function showLag(seconds) {
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

function showSource() {
  $("device-row").hidden = source() !== "microphone";
  $("file-row").hidden = source() !== "file";
  showStatus();
}

// ── a session ──

async function start() {
  hideNotice();
  if (source() === "file" && !$("file").files.length) return showProblem({ code: "no_file" });
  if (spoken.incomplete) return showProblem({ code: "few_languages" });
  heard = false;
  pending = [];
  samples = zeros = 0;
  duration = null;
  setState("opening");
  let opened;
  try {
    if (source() === "microphone") opened = await openMicrophone($("device").value);
    else if (source() === "tab") opened = await openTab();
    else opened = await openFile($("file").files[0]);
  } catch (error) {
    if (!(error instanceof CaptureError)) throw error;
    if (state !== "opening") return;
    setState("idle");
    return showProblem(error);
  }
  if (state !== "opening") return opened.stop(); // Stop was pressed meanwhile
  capture = opened;
  transcript.begin();
  if (capture.live) listen();
  listMicrophones();
  await connect();
}

function listen() {
  if (!capture.started) capture.start(onBlock, onCaptureEnd);
  capture.started = true;
}

/** Start a session with the open capture. */
async function connect() {
  setState("connecting");
  const languages = await choices.wanted(token);
  const { choice } = spoken;
  const punctuation = wantsPunctuation() && { punctuation: true };
  const config = { ...(languages.length && { translate_to: languages }), ...punctuation, ...choice };
  const first = { sample_rate: capture.rate, config };
  try {
    stream = await Stream.open((resumes) => dial(token, resumes), first, { onEvent, onState, onEnd });
    if (spoken.choice !== choice) stream.setLanguage(spoken.choice); // chosen meanwhile
  } catch (error) {
    if (!(error instanceof StreamError)) throw error;
    return onRefused(error);
  }
  pending.splice(0).forEach(send);
  if (state === "finishing") return end(); // Stop was pressed meanwhile
  listen();
}

function send(bytes) {
  samples += bytes.length / 2;
  stream.send(bytes);
}

function onRefused(error) {
  if (!RETRIED.has(error.code) || state === "finishing") {
    finished(0);
    if (error.code === "unauthorized" && token) error.code = "wrong_token";
    return showProblem(error);
  }
  showProblem(error, "waiting");
  setState("waiting");
  let seconds = Math.ceil(error.retryAfter ?? RETRY_S);
  const count = () => {
    $("countdown").textContent = `Trying again in ${seconds} s.`;
    if (seconds <= 0) {
      hideNotice();
      return connect();
    }
    seconds -= 1;
    retryTimer = setTimeout(count, 1_000);
  };
  count();
}

function onBlock(block) {
  if (state === "finishing" || state === "idle") return;
  if (!heard) {
    heard = true;
    showStatus();
  }
  let peak = 0;
  for (const sample of block) peak = Math.max(peak, Math.abs(sample));
  showLevel(peak ? Math.max(0, 1 + (20 * Math.log10(peak / 32768)) / 60) : 0); // 60 dB
  zeros = peak ? 0 : zeros + block.length;
  if (peak && shownKind() === "silent") hideNotice();
  if (zeros > SILENT_S * capture.rate && !shownKind() && source() === "microphone") {
    showNotice("There is no sound", "The microphone gives nothing at all: it may be muted.", "silent");
  }
  const bytes = new Uint8Array(block.buffer);
  if (stream) return send(bytes);
  pending.push(bytes);
  pending.splice(0, pending.length - (MAX_PENDING[state] ?? MAX_PENDING.other)); // the oldest are dropped
}

function onEvent(event) {
  switch (event.type) {
    case "session_started":
      if (state !== "finishing") setState("live");
      if (wantedTitle() !== null) stream.share(wantedTitle());
      break;
    case "shared":
      showLinks(event.share);
      break;
    case "session_moved":
      showLinks(null); // the other server gives another key
      if (wantedTitle() !== null) stream.share(wantedTitle());
      break;
    case "partial":
      showLag(Math.max(0, samples / capture.rate - event.audio_s));
      break;
    case "session_ended":
      duration = event.audio_s;
      break;
    case "warning":
      showProblem(event, "warning");
      break;
  }
  captions.handle(event, transcript.offset);
  if (event.type === "final" || event.type === "translation") {
    transcript.keep(samples / capture.rate);
    transcript.show();
  }
}

function onState(next) {
  if (state === "finishing") return;
  setState(next);
  if (next === "live") hideNotice();
  else showNotice("The connection is interrupted", "Keep speaking: nothing is lost. The text follows when it is back.", "waiting");
}

function onEnd(error) {
  stream = null;
  showLinks(null);
  finished(duration ?? samples / capture.rate);
  if (error) showProblem(error);
  else if (!["problem", "warning"].includes(shownKind())) hideNotice();
}

/** There is no session any more; it had so many seconds. */
function finished(seconds) {
  release();
  setState("idle");
  transcript.end(seconds);
}

/** The capture has ended by itself. */
function onCaptureEnd() {
  if (state === "waiting") stop(); // no later try may connect without a capture
  else finish();
  if (source() === "microphone") showProblem({ code: "microphone_gone" });
}

function finish() {
  if (stream || state === "connecting") {
    setState("finishing");
    capture.stop();
    if (stream) end(); // else once it is connected
  } else finished(0);
}

function end() {
  const ending = stream;
  ending.end();
  setTimeout(() => stream === ending && ending.close(), FINISH_MS);
}

function stop() {
  clearTimeout(retryTimer);
  hideNotice();
  finish();
}

function release() {
  capture?.stop();
  capture = null;
}

// ── controls ──

$("start").onclick = () => (state === "idle" ? start() : stop());
sharing((title) => (title === null ? stream?.unshare() : stream?.share(title)));
spoken.onChange = () => stream?.setLanguage(spoken.choice);
$("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  sessionStorage.setItem("xlsr-live.token", token); // until the tab is closed
  start();
};
$("notice-close").onclick = hideNotice;
document.querySelectorAll("input[name=source]").forEach((radio) => (radio.onchange = showSource));
navigator.mediaDevices?.addEventListener("devicechange", listMicrophones);
addEventListener("beforeunload", (event) => {
  if (stream || transcript.unsaved) event.preventDefault();
});

if (!canShareTab()) $("source-tab").disabled = true;
if (!canListen()) {
  $("source-microphone").disabled = true;
  $("source-file").checked = true;
  showProblem({ code: "insecure" });
}
showSource();
listMicrophones();
choices.onModel = (model) => {
  spoken.offer(model);
  showModel(model);
};
choices.list(token);
setState("idle");
