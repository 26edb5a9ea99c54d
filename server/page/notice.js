// The message above the controls: a problem, a question, or what the page waits for.

import { describe } from "./messages.js";

const $ = (id) => document.getElementById(id);
const ASKING = new Set(["unauthorized", "wrong_token"]);

/** `kind`: problem, warning, waiting, silent, question. */
export function showNotice(title, text, kind = "problem") {
  $("notice").dataset.kind = kind;
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("token-form").hidden = kind !== "question";
  $("notice").hidden = false;
  if (kind === "question") $("token").focus();
}

/** Show the message for a problem: {code, message}. */
export function showProblem(problem, kind = "problem") {
  const { title, text } = describe(problem);
  showNotice(title, text, ASKING.has(problem.code) ? "question" : kind);
}

export function hideNotice() {
  $("notice").hidden = true;
  $("countdown").textContent = "";
}

/** The kind of the message that is shown; null if there is none. */
export const shownKind = () => ($("notice").hidden ? null : $("notice").dataset.kind);
