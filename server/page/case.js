// Sentence case for models that write capitals only, by the rules of streaming/captions/case.py. Both give the same words.

/** A word of capitals in small letters. Spelled letters, and the English "I", stay capitals. */
export function small(word, first) {
  const lower = [...word].length === 1 && word !== "A" ? word : word.toLowerCase();
  if (!first && !lower.startsWith("i'")) return lower;
  const [initial = "", ...rest] = lower;
  return initial.toUpperCase() + rest.join("");
}

/** Whether the text shows that the model writes small letters. */
export const hasSmall = (text) => /\p{Ll}/u.test(text);
