// Where sound comes from: a microphone, a tab, or a file. Each gives 16-bit mono blocks of a tenth of a second.

const RATE = 16_000;

/** Why there is no sound; `code` is one of `messages.js`. */
export class CaptureProblem extends Error {
  constructor(code, message = "") {
    super(message);
    this.code = code;
  }
}

export const canListen = () => isSecureContext && !!navigator.mediaDevices?.getUserMedia;
export const canShareTab = () => isSecureContext && !!navigator.mediaDevices?.getDisplayMedia;

/** The microphones, with their names as far as the browser tells them: [{id, name}]. */
export async function microphones() {
  if (!canListen()) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default")
    .map(({ deviceId, label }, at) => ({ id: deviceId, name: label || `Microphone ${at + 1}` }));
}

export async function openMicrophone(id) {
  if (!canListen()) throw new CaptureProblem("insecure");
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  if (id) audio.deviceId = { exact: id };
  try {
    return await LiveCapture.of(await navigator.mediaDevices.getUserMedia({ audio }));
  } catch (error) {
    throw translated(error, "denied");
  }
}

export async function openTab() {
  if (!canShareTab()) throw new CaptureProblem(isSecureContext ? "no_tab_audio" : "insecure");
  let media;
  try {
    media = await navigator.mediaDevices.getDisplayMedia({ audio: { suppressLocalAudioPlayback: false }, video: true });
  } catch (error) {
    throw translated(error, "tab_denied");
  }
  for (const track of media.getVideoTracks()) {
    track.enabled = false; // stopped, it would end the sound as well
  }
  if (!media.getAudioTracks().length) {
    media.getTracks().forEach((track) => track.stop());
    throw new CaptureProblem("no_tab_audio");
  }
  return LiveCapture.of(media);
}

export async function openFile(file) {
  try {
    const decoder = new OfflineAudioContext(1, 1, RATE); // decodes to its own rate
    return new FileCapture(await decoder.decodeAudioData(await file.arrayBuffer()));
  } catch (error) {
    throw new CaptureProblem("bad_file", error.message);
  }
}

function translated(error, denied) {
  const codes = {
    NotAllowedError: denied,
    SecurityError: denied,
    NotFoundError: "no_microphone",
    OverconstrainedError: "no_microphone",
    NotReadableError: "microphone_busy",
    AbortError: "microphone_busy",
  };
  return error.name in codes ? new CaptureProblem(codes[error.name], error.message) : error;
}

/** `start` begins to call `heard` with Int16Arrays; `ended` is called when the sound stops by itself. */
class LiveCapture {
  static async of(media) {
    const capture = new LiveCapture();
    capture.media = media;
    const track = media.getAudioTracks()[0];
    capture.name = track.label;
    try {
      [capture.context, capture.source] = connected(media);
      await capture.context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url)).catch(() => {
        throw new CaptureProblem("unreachable"); // the file comes from the server
      });
      await capture.context.resume();
    } catch (error) {
      capture.stop();
      throw error;
    }
    capture.rate = capture.context.sampleRate;
    track.onended = () => capture.ended?.();
    return capture;
  }

  start(heard, ended) {
    this.ended = ended;
    const node = new AudioWorkletNode(this.context, "gather", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => heard(data);
    this.source.connect(node);
  }

  stop() {
    this.ended = null;
    this.media.getTracks().forEach((track) => track.stop());
    if (this.context?.state !== "closed") this.context?.close();
  }
}

function connected(media) {
  try {
    const context = new AudioContext({ sampleRate: RATE });
    return [context, context.createMediaStreamSource(media)];
  } catch {
    // Firefox does not resample a microphone; the server does.
    const context = new AudioContext();
    return [context, context.createMediaStreamSource(media)];
  }
}

class FileCapture {
  name = "";
  rate = RATE;

  constructor(audio) {
    const channels = Array.from({ length: audio.numberOfChannels }, (_, at) => audio.getChannelData(at));
    this.samples = Int16Array.from(channels[0], (_, at) => {
      const mean = channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length;
      return Math.max(-32768, Math.min(32767, Math.round(32768 * mean)));
    });
  }

  /** As fast as it was spoken: by the clock, since timers are late, and later still in a tab that is not looked at. */
  start(heard, ended) {
    const begun = performance.now();
    let sent = 0;
    this.timer = setInterval(() => {
      const due = ((performance.now() - begun) / 1000) * RATE;
      while (sent < due && sent < this.samples.length) {
        heard(this.samples.slice(sent, sent + RATE / 10));
        sent += RATE / 10;
      }
      if (sent >= this.samples.length) {
        this.stop();
        ended();
      }
    }, 100);
  }

  stop() {
    clearInterval(this.timer);
  }
}
