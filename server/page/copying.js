// Copied text: the captions as people read them, one paragraph for each utterance; no buttons, times and hidden texts.

/** The text of the captions in `root`, a copy of them or a part of one. */
export function textOf(root, separator = " ") {
  const utterances = [...root.querySelectorAll(".utterance")];
  const parts = utterances.length ? utterances : [root];
  return parts.map((part) => paragraph(part, part.dataset?.separator ?? separator)).filter(Boolean).join("\n");
}

function paragraph(part, separator) {
  const lines = [...part.querySelectorAll(".line")].map((line) => line.textContent);
  const translation = part.querySelector(".translation")?.textContent;
  const text = lines.length ? lines.join(separator) : translation ? "" : part.textContent;
  return [text.trim(), translation].filter(Boolean).join("\n");
}

/** Put a text on the clipboard, also on pages without TLS, which have no `navigator.clipboard`. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const put = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  document.addEventListener("copy", put, { capture: true });
  getSelection().selectAllChildren(document.body); // Safari copies nothing without a selection
  document.execCommand("copy");
  getSelection().removeAllRanges();
  document.removeEventListener("copy", put, { capture: true });
}

/** Whatever is selected besides, a copy takes only the captions in `box`. Ctrl-A there selects all of them. */
export function copyCaptions(box) {
  document.addEventListener("copy", (event) => {
    const selection = getSelection();
    if (selection.isCollapsed || !selection.containsNode(box, true)) return;
    const range = selection.getRangeAt(0).cloneRange();
    if (!box.contains(range.startContainer)) range.setStart(box, 0);
    if (!box.contains(range.endContainer)) range.setEnd(box, box.childNodes.length);
    const within = range.commonAncestorContainer;
    const utterance = (within.closest ? within : within.parentElement).closest(".utterance");
    const part = range.cloneContents();
    part.querySelectorAll(".stamp, .language, .divider, #hint").forEach((element) => element.remove());
    event.clipboardData.setData("text/plain", textOf(part, utterance?.dataset.separator));
    event.preventDefault();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "a" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    getSelection().selectAllChildren(box);
  });
}
