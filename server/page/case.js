// Finals as people read them: sentence case for models that write capitals only, by the rules of streaming/captions/case.py,
// or the text with punctuation, by those of streaming/captions/punctuation.py. Both give the same words.

/** A final with its `display_text`, where it has one; else in sentence case, if `sentence`. */
export function displayed(final, { sentence, punctuation }) {
  const { display_text: shown, text } = final;
  if (punctuation && shown !== undefined) {
    const parts = shown.split(" ");
    return { ...final, text: shown, words: parts.length === final.words.length ? reworded(final.words, (_, at) => parts[at]) : final.words };
  }
  if (!sentence) return final;
  const lower = (word, at) => small(word, at === 0);
  return { ...final, text: text.split(" ").map(lower).join(" "), words: reworded(final.words, lower) };
}

/** The words with other texts. */
export const reworded = (words, display) => words.map((word, at) => ({ ...word, word: display(word.word, at) }));

/** A word of capitals in small letters. Spelled letters, and the English "I", stay capitals. */
export function small(word, first) {
  const lower = [...word].length === 1 && word !== "A" ? word : word.toLowerCase();
  if (!first && !lower.startsWith("i'")) return lower;
  const [initial = "", ...rest] = lower;
  return initial.toUpperCase() + rest.join("");
}

/** Whether the text shows that the model writes small letters. */
export const hasSmall = (text) => /\p{Ll}/u.test(text);
