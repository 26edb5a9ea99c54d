// Reading along with a session that somebody else captions.

import { follow } from "./follow.js";
import { explained } from "./messages.js";
import { reader } from "./reader.js";

const STATES = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", full: "Waiting", ended: "Ended" };

const $ = (id) => document.getElementById(id);
const captions = reader();

function enter(state) {
  document.body.dataset.state = state;
  $("status").textContent = STATES[state];
}

function say(code, kind) {
  const { title, text } = explained({ code });
  $("notice").dataset.kind = kind;
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice").hidden = false;
}

function changed(state) {
  enter(state);
  $("notice").hidden = state === "live";
  if (state === "reconnecting") say("view_interrupted", "waiting");
  if (state === "full") say("viewers_full", "waiting");
}

function over(good) {
  captions.settle();
  enter("ended");
  if (good) say("view_ended", "over");
  else say("view_unknown", "problem");
}

enter("connecting");
addEventListener("hashchange", () => location.reload());
follow(location.hash.slice(1), { told: (event) => captions.tell(event), changed, over });
