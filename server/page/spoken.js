// The language of the speech: the model's default, one of its languages, or each utterance's own among two to ten.

import { base, nameOf, store, stored, tagOf } from "./languages.js";

const KEYS = { language: "xlsr-live.language", allowed: "xlsr-live.allowed" };
const AUTO = "auto";
const FEWEST = 2; // languages among which each utterance gets its own
const MOST = 10;

const $ = (id) => document.getElementById(id);

class Spoken {
  onChange = () => {}; // with a new choice
  #choice = null;

  /** `language` and `allowed_languages` as the protocol's `config` has them; null for the model's default. */
  get choice() {
    return this.#choice;
  }

  /** Whether too few languages are chosen. */
  get incomplete() {
    return $("spoken").value === AUTO && checked().length < FEWEST;
  }

  /** Fill the choices: the last ones, the model's default, or else the speaker's own. */
  offer({ languages = [], language }) {
    if (!languages.length) return;
    const named = languages.map((code) => [nameOf(code), code]).sort(([a], [b]) => a.localeCompare(b));
    const own = navigator.languages.map((tag) => languages.find((code) => base(tagOf(code)) === base(tag))).filter(Boolean);
    const automatic = languages.length < FEWEST ? [] : [new Option("Automatic", AUTO)];
    const options = named.map(([name, code]) => new Option(name, code));
    $("spoken").replaceChildren(new Option(usual(language), ""), ...automatic, ...options);
    const last = stored(KEYS.language);
    $("spoken").value = [...languages, AUTO].includes(last) ? last : language ? "" : own[0] ?? "";
    const allowed = (stored(KEYS.allowed) ?? [...new Set(own)]).filter((code) => languages.includes(code)).slice(0, MOST);
    named.sort(([, a], [, b]) => allowed.includes(b) - allowed.includes(a)); // the chosen ones first
    $("allowed-languages").append(...named.map(([name, code]) => this.#box(name, code, allowed.includes(code))));
    $("find-language").oninput = find;
    $("find-row").hidden = languages.length <= MOST;
    $("spoken").onchange = () => this.#changed();
    $("spoken").hidden = false;
    this.#show();
  }

  #box(name, code, checked) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: code, checked });
    box.onchange = () => this.#changed();
    const label = document.createElement("label");
    label.append(box, ` ${name}`);
    return label;
  }

  #changed() {
    store(KEYS.language, $("spoken").value);
    store(KEYS.allowed, checked());
    this.#show();
    if (!this.incomplete) this.onChange();
  }

  /** Show the choice, and keep it if it is complete. */
  #show() {
    const language = $("spoken").value;
    const codes = checked();
    for (const box of boxes()) box.disabled = !box.checked && codes.length >= MOST;
    const more = codes.length > 2 ? ` + ${codes.length - 2}` : "";
    $("allowed-button").textContent = codes.length < FEWEST ? "Which languages?" : codes.slice(0, 2).map(nameOf).join(", ") + more;
    $("allowed-button").hidden = language !== AUTO;
    $("allowed-count").textContent = codes.length < FEWEST ? `Choose at least ${FEWEST}.` : `${codes.length} of at most ${MOST}.`;
    if (this.incomplete) return;
    this.#choice = language ? { language, ...(language === AUTO && { allowed_languages: codes }) } : null;
  }
}

export const spoken = new Spoken();

function usual(language) {
  if (!language) return "Choose a language";
  return `${language === AUTO ? "Automatic" : nameOf(language)} (default)`;
}

const boxes = () => [...document.querySelectorAll("#allowed-languages input")];
const checked = () => boxes().filter((box) => box.checked).map(({ value }) => value);

/** Show only the languages whose names contain the text. */
function find() {
  const wanted = $("find-language").value.trim().toLowerCase();
  for (const box of boxes()) box.parentElement.hidden = !box.parentElement.textContent.toLowerCase().includes(wanted);
}
