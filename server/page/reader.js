// The parts of every page with a transcript: the captions, their style, scrolling, and saving.

import { Captions } from "./captions.js";
import { download, FORMATS } from "./download.js";
import { preferences } from "./preferences.js";
import { showWordInfo } from "./wordinfo.js";

const $ = (id) => document.getElementById(id);

/** Connect the page's elements; returns its `Captions`. */
export function reader() {
  const captions = new Captions($("captions"), { announcer: $("finals"), onChange: () => update() });
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
  preferences($("look"), ({ mode, sentence }) => captions.setStyle({ mode, sentence }));
  showWordInfo($("captions"), $("word-info"));
  update();
  return captions;
}
