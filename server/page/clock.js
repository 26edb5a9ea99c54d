// Times as text.

/** `1:02:03`, `2:03`; with `decimals`, `2:03.4`. */
export function clock(seconds, decimals = 0) {
  const scale = 10 ** decimals;
  const whole = Math.floor(seconds * scale) / scale;
  const minutes = Math.floor(whole / 60);
  const rest = (whole % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** `00:02:03.456`, with `mark` before the milliseconds. */
export function stamp(seconds, mark) {
  const millis = Math.round(seconds * 1000);
  const part = (size, base, digits) => String(Math.floor(millis / size) % base).padStart(digits, "0");
  return `${part(3_600_000, 100, 2)}:${part(60_000, 60, 2)}:${part(1_000, 60, 2)}${mark}${part(1, 1_000, 3)}`;
}
