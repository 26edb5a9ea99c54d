// What every page with a transcript has: the text, how it looks, the way back to its newest line, and saving it.

import { Captions } from "./captions.js";
import { download, FORMATS } from "./download.js";
import { preferences } from "./preferences.js";
import { tellWords } from "./wordinfo.js";

const $ = (id) => document.getElementById(id);

/** Bring the page's text to life; returns its `Captions`. */
export function reader() {
  const captions = new Captions($("captions"), { announcer: $("finals"), changed: () => update() });
  function update() {
    $("hint").hidden = !captions.empty;
    $("to-live").hidden = captions.following;
    $("refit").hidden = captions.empty || !captions.misfit;
    for (const name of Object.keys(FORMATS)) $(`save-${name}`).disabled = !captions.finals.length;
  }
  for (const name of Object.keys(FORMATS)) {
    $(`save-${name}`).onclick = () => {
      download(name, captions.finals);
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
  preferences($("look"), ({ mode, sentence }) => captions.look({ mode, sentence }));
  tellWords($("captions"), $("word-info"));
  update();
  return captions;
}
