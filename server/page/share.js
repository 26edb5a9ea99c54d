// The panel for sharing: links for readers, a QR code, and the title that they see.

import { copyText } from "./copying.js";
import { generate } from "./lean-qr.js";
import { store, stored } from "./languages.js";

const KEYS = { title: "xlsr-live.title", address: "xlsr-live.address" };
const LOCAL = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

const $ = (id) => document.getElementById(id);
let key = null; // of the shared session

/** `onShare` is called with a title when a running session is to be shared or renamed; with null to end that. */
export function sharing(onShare) {
  $("local-only").hidden = !LOCAL;
  $("title").value = stored(KEYS.title) ?? "";
  $("address").value = stored(KEYS.address) ?? "";
  $("share-on").onchange = () => onShare(wantedTitle());
  $("title").onchange = () => {
    store(KEYS.title, $("title").value);
    if ($("share-on").checked) onShare(wantedTitle());
  };
  $("address").oninput = () => {
    store(KEYS.address, $("address").value.trim());
    draw();
  };
  $("share-panel").onsubmit = (event) => event.preventDefault();
  for (const page of ["view", "overlay"]) {
    $(`copy-${page}`).onclick = async () => {
      await copyText($(`${page}-link`).href);
      $("copied").textContent = "Copied.";
    };
  }
}

/** The title for readers, if the speaker wants to share; else null. */
export const wantedTitle = () => ($("share-on").checked ? $("title").value.trim() : null);

/** Show the links of a shared session; null: none is shared. */
export function showLinks(shared) {
  key = shared ?? null;
  $("links").hidden = !key;
  $("share").classList.toggle("on", !!key);
  $("copied").textContent = "";
  if (key) draw();
}

function draw() {
  for (const page of ["view", "overlay"]) {
    const link = new URL(page, document.baseURI);
    // OBS may run on this computer, readers do not.
    if (LOCAL && page === "view" && $("address").value.trim()) link.host = $("address").value.trim(); // with or without a port
    link.hash = key ?? "";
    $(`${page}-link`).href = $(`${page}-link`).textContent = link.href;
  }
  $("qr").hidden = LOCAL && !$("address").value.trim(); // a telephone could not open it
  if (key) generate($("view-link").href).toCanvas($("qr"));
}
