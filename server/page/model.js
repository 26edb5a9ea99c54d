// The server's model: its name and language, what to expect of it, and whether it restores punctuation.

import { nameOf, tagOf } from "./languages.js";

const SMALL = 50_000_000; // parameters; client/output/about.py has the same limit

const $ = (id) => document.getElementById(id);
let restores = false; // whether the server has a model for punctuation

/** Name the model, and mark the captions with its language; `model` is that of /v1/models. */
export function showModel({ id, parameters, languages = [], spoken_language: spoken, punctuation = false }) {
  restores = punctuation;
  const folder = /^[~.]?[/\\]|^[a-z]:/i.test(id);
  const name = folder ? id.split(/[/\\]/).filter(Boolean).at(-1) : id;
  const known = languages.length > 1 ? `${languages.length.toLocaleString()} languages` : nameOf(spoken ?? languages[0]);
  const text = `Model: ${[name, known].filter(Boolean).join(", ")}.${parameters < SMALL ? " It is small: expect errors." : ""}`;
  for (const place of document.querySelectorAll(".model")) place.textContent = text;
  if (spoken) for (const part of [$("captions").querySelector(".text"), $("finals")]) part.lang = tagOf(spoken);
}

/** Whether a session has finals with punctuation, by the preference of the speaker. */
export function wantsPunctuation() {
  const wanted = $("punctuation").value;
  return wanted === "always" || (wanted === "auto" && restores);
}
