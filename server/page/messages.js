// Messages for users: for each code a title and advice.

const MESSAGES = {
  insecure: [
    "The microphone needs a secure page",
    "Browsers give the microphone only to pages that come over https, or from this computer itself " +
      `(http://localhost${location.port && `:${location.port}`}). Captions of a file work here as well.`,
  ],
  denied: [
    "The microphone is blocked",
    "Allow it for this page: click the icon to the left of the address, switch the microphone on, then press Start.",
  ],
  no_microphone: ["No microphone found", "Plug one in or switch it on, then press Start."],
  microphone_busy: [
    "The microphone does not answer",
    "Another program may be using it. Close it, or choose another microphone, then press Start.",
  ],
  microphone_gone: ["The microphone went away", "It was unplugged or switched off. The text so far is kept."],
  tab_denied: ["No tab was shared", "Press Start and choose a tab, with its sound."],
  no_tab_audio: [
    "There is no sound in what was shared",
    "Choose a tab and switch on “Share tab audio”. Only some browsers can do this: Chrome and Edge can.",
  ],
  no_file: ["No file chosen", "Choose a sound or video file, then press Start."],
  few_languages: [
    "Automatic needs at least two languages",
    "Choose those that may occur with the button beside “Automatic”, or choose one language.",
  ],
  bad_file: ["This file cannot be read", "The browser finds no sound in it that it can decode."],
  unauthorized: ["This server asks for a token", "Ask the person who runs it for one."],
  wrong_token: ["The token is not right", "Check for missing characters, or ask the person who runs the server."],
  forbidden_origin: [
    "This address may not use the server",
    "The server's setting “origins” must allow the address of this page.",
  ],
  server_full: ["The server is full", "All places are taken."],
  client_full: ["You have reached your limit of sessions", "End one of them."],
  overloaded: ["The server is busy", "It has more sessions than it can serve now."],
  very_quiet: [
    "The speech is very quiet",
    "Move closer to the microphone, or raise its level in the system's sound settings.",
  ],
  shutting_down: ["The server is stopping", "The text so far stays here."],
  encoder_failed: ["The server cannot recognize speech at the moment", "Its model does not answer."],
  unreachable: ["The server does not answer", "Is it still running, and is this computer online?"],
  lost: ["The connection was lost", "The text so far is kept. Press Start to continue."],
  resume_lost: ["The connection was lost", "The text so far is kept. Press Start to continue."],
  view_interrupted: ["The connection is interrupted", "The text continues when it is back."],
  view_ended: ["The session has ended", "The text stays here until you close the page."],
  view_unknown: ["Nothing is shared under this link", "The session has ended, or the link is incomplete. Ask for a new one."],
  viewers_full: ["Too many people are reading along", "You can read along when somebody leaves."],
  session_too_long: ["The session has reached its limit", "The text so far is kept. Press Start to continue."],
};

/** What to do, where there is no text yet: by source, then by state; `going` in all other states. */
export const HINTS = {
  microphone: {
    idle: "Press Start and speak.",
    opening: "Allow the microphone, then speak.",
    connecting: "One moment.",
    going: "Speak.",
  },
  tab: {
    idle: "Press Start, choose a tab, and switch on its sound.",
    opening: "Choose a tab, and switch on its sound.",
    connecting: "One moment.",
    going: "Play something in that tab.",
  },
  file: {
    idle: "Choose a sound or video file, then press Start.",
    opening: "One moment: the browser reads the file.",
    connecting: "One moment.",
    going: "The file runs at its own speed.",
  },
};

export const RETRIED = new Set(["server_full", "client_full", "overloaded", "shutting_down", "encoder_failed"]);

/** The message for a problem: {title, text}. */
export function describe({ code, message }) {
  const [title, text] = MESSAGES[code] ?? ["Something went wrong", message || String(code)];
  return { title, text };
}
