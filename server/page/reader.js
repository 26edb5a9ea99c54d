// The parts of every page with a transcript: the captions, their style, scrolling, and saving.

import { Captions } from "./captions.js";
import { copyCaptions } from "./copying.js";
import { download, FORMATS } from "./download.js";
import { chosen, offer, offerSpoken } from "./languages.js";
import { preferences } from "./preferences.js";
import { fullScreen } from "./screen.js";
import { showWordInfo } from "./wordinfo.js";

const $ = (id) => document.getElementById(id);

/** Connect the page's elements; returns its `Captions`. */
export function reader() {
  let style = null; // the preferences, and the language that is shown
  const captions = new Captions($("captions"), { announcer: $("finals"), onChange: () => update() });
  function update() {
    $("hint").hidden = !captions.empty;
    $("to-live").hidden = captions.following;
    $("refit").hidden = captions.empty || !captions.misfit;
    for (const name of Object.keys(FORMATS)) $(`save-${name}`).disabled = !captions.finals.length;
    offer($("translation"), captions.languages);
    offer($("save-language"), captions.languages);
    offerSpoken($("save-language"), captions.spoken);
    $("translation-row").hidden = !captions.languages.size;
    $("save-language-row").hidden = $("save-language").options.length < 2;
    applyStyle();
  }
  function applyStyle() {
    if (!style) return;
    const translation = chosen(style.translation, captions.languages);
    document.documentElement.classList.toggle("translated", !!translation);
    if (translation === style.shown) return;
    style.shown = translation;
    captions.setStyle({ ...style, translation });
  }
  for (const name of Object.keys(FORMATS)) {
    $(`save-${name}`).onclick = () => {
      download(name, captions.finals, captions.display, $("save-language").value);
      $("save").hidePopover();
    };
  }
  $("to-live").onclick = () => {
    captions.toLive();
    $("captions").focus({ preventScroll: true });
  };
  $("refit").onclick = () => {
    captions.refit();
    $("captions").focus({ preventScroll: true });
  };
  preferences($("look"), ({ mode, sentence, punctuation, translation }) => {
    style = { mode, sentence, punctuation: punctuation !== "none", translation, shown: null };
    applyStyle();
  });
  // Who turns a telephone wants other lines; who resizes a window may not.
  matchMedia("(orientation: portrait)").onchange = () => matchMedia("(pointer: coarse)").matches && captions.refit();
  showWordInfo($("captions"), $("word-info"));
  copyCaptions($("captions"));
  fullScreen($("full-screen"));
  update();
  return captions;
}
