// Line breaking, as pure functions.

/**
 * The index of the first word of each line. Lines are filled greedily. The words in `fixed` (a Set) start lines already
 * and keep doing so until a line no longer fits.
 */
export function breakLines(words, separator, fits, fixed = new Set()) {
  const starts = words.length ? [0] : [];
  let line = "";
  let keepsFixed = true;
  words.forEach((word, at) => {
    const longer = line ? line + separator + word : word;
    if (at && keepsFixed && fixed.has(at)) {
      starts.push(at);
      line = word;
    } else if (at && !fits(longer)) {
      keepsFixed = false;
      starts.push(at);
      line = word;
    } else line = longer;
  });
  return starts;
}

/** For each word of `before` its index in `after`, or null without a counterpart (Levenshtein alignment). */
export function aligned(before, after) {
  const cost = Array.from({ length: before.length + 1 }, (_, i) => [i]);
  cost[0] = Array.from({ length: after.length + 1 }, (_, j) => j);
  for (let i = 1; i <= before.length; i += 1) {
    for (let j = 1; j <= after.length; j += 1) {
      const differ = before[i - 1] === after[j - 1] ? 0 : 1;
      cost[i][j] = Math.min(cost[i - 1][j - 1] + differ, cost[i - 1][j] + 1, cost[i][j - 1] + 1);
    }
  }
  const places = new Array(before.length).fill(null);
  for (let i = before.length, j = after.length; i && j; ) {
    const differ = before[i - 1] === after[j - 1] ? 0 : 1;
    if (cost[i][j] === cost[i - 1][j - 1] + differ) places[(i -= 1)] = j -= 1;
    else if (cost[i][j] === cost[i - 1][j] + 1) i -= 1;
    else j -= 1;
  }
  return places;
}
