// The page for viewers of a shared session.

import { follow } from "./follow.js";
import { describe } from "./messages.js";
import { reader } from "./reader.js";
import { keepAwake } from "./screen.js";
import { timeOfDay } from "./utterance.js";

const STATES = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", full: "Waiting", ended: "Ended" };

const $ = (id) => document.getElementById(id);
const captions = reader();

function setState(state) {
  document.body.dataset.state = state;
  $("status").textContent = STATES[state];
  keepAwake(state !== "ended");
}

function showNotice(code, kind) {
  const { title, text } = describe({ code });
  $("notice").dataset.kind = kind;
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice").hidden = false;
}

function onState(state) {
  setState(state);
  $("notice").hidden = state === "live";
  if (state === "reconnecting") showNotice("view_interrupted", "waiting");
  if (state === "full") showNotice("viewers_full", "waiting");
}

function onEnd(valid) {
  captions.finishOpen();
  setState("ended");
  if (valid) showNotice("view_ended", "over");
  else showNotice("view_unknown", "problem");
}

function onEvent(event) {
  if (event.type === "shared") {
    $("title").textContent = document.title = event.title || "Live captions";
    $("began").textContent = `since ${timeOfDay(event.began)}`;
  }
  captions.handle(event);
}

setState("connecting");
addEventListener("hashchange", () => location.reload());
follow(location.hash.slice(1), { onEvent, onState, onEnd });
