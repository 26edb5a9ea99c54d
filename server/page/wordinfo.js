// The time and confidence of a word, under the pointer or with the arrow keys.

import { clock } from "./clock.js";

/** `box` holds elements of class `word`; `tip` appears beside one of them. */
export function showWordInfo(box, tip) {
  let current = null;

  function show(element) {
    if (!element?.word) return;
    const { start, end, confidence } = element.word;
    tip.textContent = `${clock(start, 1)} – ${clock(end, 1)}, ${Math.round(100 * confidence)} % sure`;
    tip.hidden = false;
    const at = element.getBoundingClientRect();
    const left = Math.min(at.left, innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${at.top > tip.offsetHeight + 12 ? at.top - tip.offsetHeight - 4 : at.bottom + 4}px`;
  }

  function hide() {
    tip.hidden = true;
  }

  box.addEventListener("pointerover", ({ target }) => (target.classList.contains("word") ? show(target) : hide()));
  box.addEventListener("pointerleave", hide);
  box.addEventListener("scroll", hide);
  box.addEventListener("focusout", hide);
  box.addEventListener("focusin", ({ target }) => show(target));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    const words = [...box.querySelectorAll(".final .word")];
    if (!words.length) return;
    event.preventDefault();
    const at = words.includes(current) ? words.indexOf(current) + step : words.length - 1;
    current = words[Math.max(0, Math.min(words.length - 1, at))];
    current.tabIndex = -1;
    current.setAttribute("aria-describedby", tip.id);
    current.focus();
  });
}
