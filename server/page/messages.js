// What went wrong, in plain words: for each code a title and what to do about it.

const WORDS = {
  insecure: [
    "The microphone needs a secure page",
    "Browsers give the microphone only to pages that come over https, or from this computer itself " +
      `(http://localhost${location.port && `:${location.port}`}). Captions of a file work here as well.`,
  ],
  denied: [
    "The microphone is blocked",
    "Allow it for this page: click the sign to the left of the address, switch the microphone on, then press Start.",
  ],
  no_microphone: ["No microphone found", "Plug one in or switch it on, then press Start."],
  microphone_busy: [
    "The microphone does not answer",
    "Another program may be using it. Close that one, or choose another microphone, then press Start.",
  ],
  microphone_gone: ["The microphone went away", "It was unplugged or switched off. What was said until then is kept."],
  tab_denied: ["No tab was shared", "Press Start and choose a tab, with its sound."],
  no_tab_audio: [
    "There is no sound in what was shared",
    "Choose a tab and switch on “Share tab audio”. Only some browsers can do this: Chrome and Edge can.",
  ],
  no_file: ["No file chosen", "Choose a sound or video file, then press Start."],
  bad_file: ["This file cannot be read", "The browser finds no sound in it that it can decode."],
  unauthorized: ["This server asks for a token", "You get one from whoever runs it."],
  wrong_token: ["The token is not right", "Look for missing characters, or ask whoever runs the server."],
  forbidden_origin: [
    "This address may not use the server",
    "Whoever runs it must allow the page's address (the setting “origins”).",
  ],
  server_full: ["The server is full", "All places are taken."],
  client_full: ["You have all the sessions you may have", "End one of them."],
  overloaded: ["The server is busy", "It has more to do than it can."],
  shutting_down: ["The server is stopping", "What it has heard is kept here."],
  encoder_failed: ["The server cannot recognize speech just now", "Its model does not answer."],
  unreachable: ["The server does not answer", "Is it still running, and is this computer online?"],
  lost: ["The connection was lost", "What was recognized until then is kept. Press Start to go on."],
  resume_lost: ["The connection was lost", "What was recognized until then is kept. Press Start to go on."],
  view_interrupted: ["The connection is interrupted", "The text goes on when it is back."],
  view_ended: ["The session has ended", "What was said stays here until you close the page."],
  view_unknown: ["Nothing is shared under this link", "The session has ended, or the link is not whole. Ask for another one."],
  viewers_full: ["Too many people are reading along", "You are let in when somebody leaves."],
  session_too_long: ["The session has reached its limit", "What was said is kept. Press Start to go on."],
};

export const RETRIED = new Set(["server_full", "client_full", "overloaded", "shutting_down", "encoder_failed"]);

/** {title, text} of a problem. */
export function explained({ code, message }) {
  const [title, text] = WORDS[code] ?? ["Something went wrong", message || String(code)];
  return { title, text };
}
