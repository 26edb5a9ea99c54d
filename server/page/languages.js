// Languages: their tags and names, the reader's choice of a translation, and the speaker's.

const KEY = "xlsr-live.translate";
const names = new Intl.DisplayNames([navigator.language, "en"], { type: "language" });

// ISO 15924 codes of the scripts that checkpoints write out, as in "cmn-script_simplified".
const SCRIPTS = {
  arabic: "Arab",
  cyrillic: "Cyrl",
  devanagari: "Deva",
  latin: "Latn",
  simplified: "Hans",
  traditional: "Hant",
};

/** The BCP 47 tag of a checkpoint's language, as `tag_of` in streaming/languages.py; empty if nobody knows it. */
export function tagOf(code) {
  const [, base, rest] = /^([^-_]*)[-_]?(.*)$/.exec(code ?? "");
  const script = SCRIPTS[rest.replace("script_", "")] ?? (/^[A-Z][a-z]{3}$/.test(rest) ? rest : "");
  if (!base || base === "und") return "";
  try {
    return Intl.getCanonicalLocales(script ? `${base}-${script}` : base)[0];
  } catch {
    return "";
  }
}

/** The name of a checkpoint's language for people. */
export function nameOf(code) {
  const tag = tagOf(code);
  return tag ? names.of(tag) : code;
}

/** A tag without script and region. */
export const base = (tag) => tag.split("-")[0];

/** Add languages (BCP 47) to a select. */
export function offer(select, languages) {
  for (const language of languages) {
    const option = [...select.options].find(({ value }) => value === language);
    if (option) option.textContent = names.of(language);
    else select.add(new Option(names.of(language), language));
  }
}

const SPOKEN = "spoken:"; // before the code of a language in the values of a select

/** Add a choice to a select for each language of the speech, if there are several. */
export function offerSpoken(select, codes) {
  if (codes.size < 2) return;
  for (const code of codes) {
    const value = SPOKEN + code;
    if (![...select.options].some((option) => option.value === value)) select.add(new Option(`Only ${nameOf(code)}`, value));
  }
}

/** The code in the value of such a choice; empty for another choice. */
export function spokenOf(value) {
  return value.startsWith(SPOKEN) ? value.slice(SPOKEN.length) : "";
}

/** The language of the second line: "auto" is the reader's own, if there is a translation into it. */
export function chosen(preference, languages) {
  if (preference !== "auto") return languages.has(preference) ? preference : "";
  return [...languages].find((language) => navigator.languages.some((own) => base(own) === base(language))) ?? "";
}

/** What the speaker wants: checkboxes for the languages that the server translates into. */
class Choices {
  onModel = () => {};
  #listed = null;

  /** Ask the server, once it answers; `onModel` gets its model. */
  async list(token) {
    if (this.#listed) return;
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(new URL("v1/models", document.baseURI), { headers, cache: "no-store" }).catch(() => null);
    if (!response?.ok) return;
    const [model] = (await response.json()).data;
    if (this.#listed) return; // by a call in the meantime
    this.#listed = model.translates_to ?? [];
    this.onModel(model);
    const wanted = stored(KEY) ?? [];
    document.getElementById("languages").append(
      ...this.#listed.map((language) => {
        const box = Object.assign(document.createElement("input"), { type: "checkbox", value: language });
        box.checked = wanted.includes(language);
        box.onchange = () => store(KEY, checked());
        const label = document.createElement("label");
        label.append(box, ` ${names.of(language)}`);
        return label;
      }),
    );
    document.getElementById("translate-button").hidden = !this.#listed.length;
  }

  /** The checked languages; at most eight, as the protocol allows. */
  async wanted(token) {
    await this.list(token);
    return checked().slice(0, 8);
  }
}

export const choices = new Choices();

const checked = () => [...document.querySelectorAll("#languages input:checked")].map(({ value }) => value);

// A browser may forbid storage; then nothing is stored.
export function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {}
}
