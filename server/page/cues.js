// Cues from finals, by the rules of streaming/captions (which names their sources). Both give the same cues.

const LINE_CHARS = 42;
const SPEED = 17; // characters per second
const SHORTEST = 5 / 6; // all times in seconds
const LONGEST = 7;
const GAP = 2 / 24;
const LATE = 1.5; // how long a cue may overlap the next words
const APART = 1.2; // no cue spans a longer silence
const PAUSE = 0.5; // longer pauses are no better break points

const listed = (words) => new Set(words.split(" "));
const CLAUSE = listed(
  "and but or nor so yet because although though while when where which who whom whose that if unless until since as " +
    "than whether",
);
const PREPOSITION = listed(
  "of to in on at by with from for into over under about after before between through during without within upon " +
    "against among toward towards near behind beyond across along around",
);
const BOUND = new Set([
  ...CLAUSE,
  ...PREPOSITION,
  ...listed("a an the this these those my your his her its our their some any no every each"),
  ...listed("i you he she it we they there mr mrs ms dr saint st very more most"),
  ...listed("is are was were be been am have has had do does did will would shall should can could may might must not"),
]);

/** The cues of the translation of each final, at the times of its own; as streaming/captions/translated.py. */
export function translatedCuesOfEach(finals, language) {
  const originals = cuesOfEach(finals);
  return finals.map(({ translations }, at) => {
    const text = translations?.[language];
    return text ? spread(text, originals[at]) : [];
  });
}

/** A text over the times of cues, in proportion to their lengths. */
function spread(text, originals) {
  const separator = text.trim().includes(" ") || length(text) <= LINE_CHARS ? " " : "";
  const words = separator ? text.split(/\s+/).filter(Boolean) : [...text];
  const parts = words.flatMap((word) => pieces({ word, start: 0, end: 0 }));
  const size = ({ lines }) => Math.max(1, lines.reduce((sum, line) => sum + length(line), 0));
  const total = originals.reduce((sum, cue) => sum + size(cue), 0);
  const letters = parts.reduce((sum, { word }) => sum + length(word), 0);
  let [at, said, due] = [0, 0, 0];
  return originals.flatMap((cue, number) => {
    due += (size(cue) / total) * letters;
    const first = at;
    while (at < parts.length && (number === originals.length - 1 || said + length(parts[at].word) / 2 <= due)) {
      said += length(parts[at].word);
      at += 1;
    }
    return first < at ? fitted(parts.slice(first, at), separator, cue.start, cue.end) : [];
  });
}

/** One cue, or as many as two lines each need. */
function fitted(words, separator, start, end) {
  const lines = twoLines(words, separator);
  if (lines) return [{ start, end, lines }];
  const half = Math.floor(words.length / 2);
  const middle = Math.floor((start + end) * 500) / 1000;
  return [...fitted(words.slice(0, half), separator, start, middle), ...fitted(words.slice(half), separator, middle, end)];
}

/** The cues of each final, in order and without overlap: [[{start, end, lines}]]. */
export function cuesOfEach(finals) {
  let free = 0; // the next cue starts at this time or later
  return finals.map((final) => {
    const { separator, groups } = grouped(final);
    return groups.map((words, at) => {
      const lines = twoLines(words, separator);
      const following = groups[at + 1]?.[0].start ?? final.end;
      const start = Math.max(words[0].start, free);
      const wanted = Math.max(words.at(-1).end, start + length(lines.join(" ")) / SPEED);
      const end = Math.max(Math.min(wanted, following + LATE - GAP, start + LONGEST), start + SHORTEST);
      free = end + GAP;
      return { start: rounded(start), end: rounded(end), lines };
    });
  });
}

/** The words of each cue. When the next word does not fit, the cue ends at its best break point. */
function grouped({ words, text, start, end }) {
  const said = words.length ? words : [{ word: text, start, end }];
  const separator = text.includes(" ") || said.length < 2 ? " " : "";
  const groups = [];
  let rest = said.flatMap(pieces);
  for (let count = taken(rest, separator); count; count = taken(rest, separator)) {
    groups.push(rest.slice(0, count));
    rest = rest.slice(count);
  }
  return { separator, groups: [...groups, rest] };
}

/** The number of words in the next cue; 0 if all fit. */
function taken(words, separator) {
  for (let count = 1; count < words.length; count += 1) {
    if (words[count].start - words[count - 1].end >= APART) return count;
    const long = words[count].end - words[0].start > LONGEST;
    if (long || !twoLines(words.slice(0, count + 1), separator)) {
      return best(upTo(count), (at) => {
        const flash = words[at].start - words[0].start < SHORTEST + GAP;
        return merit(words[at - 1], words[at]) - 3 * (1 - size(words, at) / size(words, count)) - 5 * flash;
      });
    }
  }
  return 0;
}

/** The merit of a break between two words. */
function merit(left, right) {
  const last = left.word.toLowerCase();
  const first = right.word.toLowerCase();
  const clause = CLAUSE.has(first) ? 1 : PREPOSITION.has(first) ? 0.6 : 0;
  return (2 * Math.min(Math.max(0, right.start - left.end), PAUSE)) / PAUSE + clause - 1.5 * BOUND.has(last);
}

/** The words in one line, or in two balanced lines with the best break; null if they do not fit. */
function twoLines(words, separator) {
  const texts = words.map(({ word }) => word);
  const whole = texts.join(separator);
  if (length(whole) <= LINE_CHARS) return [whole];
  const halves = (at) => [texts.slice(0, at).join(separator), texts.slice(at).join(separator)];
  const count = best(upTo(words.length - 1).reverse(), (at) => {
    const [above, below] = halves(at).map(length);
    if (above > LINE_CHARS || below > LINE_CHARS) return -Infinity;
    const uneven = (2 * Math.abs(above - below)) / LINE_CHARS + 0.2 * (above > below);
    return merit(words[at - 1], words[at]) - uneven;
  });
  return count ? halves(count) : null;
}

/** The count with the highest worth, the first of equals; 0 if all are -Infinity. */
function best(counts, worth) {
  let [found, highest] = [0, -Infinity];
  for (const count of counts) {
    const value = worth(count);
    if (value > highest) [found, highest] = [count, value];
  }
  return found;
}

const upTo = (most) => Array.from({ length: most }, (_, at) => at + 1);

/** A word split into parts that fit a line (scripts without spaces); they share its time by length. */
function pieces({ word, start, end }) {
  const characters = [...word];
  const step = (end - start) / Math.max(1, characters.length);
  const parts = [];
  for (let at = 0; at < characters.length; at += LINE_CHARS) {
    const part = characters.slice(at, at + LINE_CHARS);
    const begun = start + step * at;
    parts.push({ word: part.join(""), start: begun, end: begun + step * part.length });
  }
  return parts;
}

const rounded = (seconds) => Number(seconds.toFixed(3)); // multiplying by 1000 is inexact

const length = (text) => [...text].length; // in characters, not UTF-16 code units

const size = (words, count) => words.slice(0, count).reduce((sum, { word }) => sum + length(word) + 1, 0);
