// Audio sources: a microphone, a tab, or a file. Each gives mono 16-bit blocks of a tenth of a second.

const RATE = 16_000;

/** Why there is no audio; `code` is one of `messages.js`. */
export class CaptureError extends Error {
  constructor(code, message = "") {
    super(message);
    this.code = code;
  }
}

export const canListen = () => isSecureContext && !!navigator.mediaDevices?.getUserMedia;
export const canShareTab = () => isSecureContext && !!navigator.mediaDevices?.getDisplayMedia;

/** The microphones as [{id, name}]; browsers hide the names until the user allows access. */
export async function microphones() {
  if (!canListen()) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default")
    .map(({ deviceId, label }, at) => ({ id: deviceId, name: label || `Microphone ${at + 1}` }));
}

export async function openMicrophone(id) {
  if (!canListen()) throw new CaptureError("insecure");
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  if (id) audio.deviceId = { exact: id };
  return LiveCapture.of(() => navigator.mediaDevices.getUserMedia({ audio }), "denied");
}

export async function openTab() {
  if (!canShareTab()) throw new CaptureError(isSecureContext ? "no_tab_audio" : "insecure");
  const shared = { audio: { suppressLocalAudioPlayback: false }, video: true };
  return LiveCapture.of(async () => soundOf(await navigator.mediaDevices.getDisplayMedia(shared)), "tab_denied");
}

/** What a tab shares, without its picture. */
function soundOf(media) {
  for (const track of media.getVideoTracks()) {
    track.enabled = false; // stopping it would end the audio too
  }
  if (!media.getAudioTracks().length) {
    media.getTracks().forEach((track) => track.stop());
    throw new CaptureError("no_tab_audio");
  }
  return media;
}

export async function openFile(file) {
  try {
    const decoder = new OfflineAudioContext(1, 1, RATE); // resamples to its own rate
    return new FileCapture(await decoder.decodeAudioData(await file.arrayBuffer()));
  } catch (error) {
    throw new CaptureError("bad_file", error.message);
  }
}

function asCaptureError(error, denied) {
  const codes = {
    NotAllowedError: denied,
    SecurityError: denied,
    NotFoundError: "no_microphone",
    OverconstrainedError: "no_microphone",
    NotReadableError: "microphone_busy",
    AbortError: "microphone_busy",
  };
  return error.name in codes ? new CaptureError(codes[error.name], error.message) : error;
}

/** After `start`, calls `onBlock` with Int16Arrays, and `onEnd` when the audio ends by itself. */
class LiveCapture {
  live = true; // what is not captured now is lost

  /**
   * `ask` gets the media; `denied` is the code if the user refuses. The audio thread is ready before, so it captures from
   * the moment of the permission: blocks before `start` wait in the message port.
   */
  static async of(ask, denied) {
    const capture = new LiveCapture();
    try {
      capture.context = await withWorklet({ sampleRate: RATE });
      capture.media = await ask();
      await capture.connect();
      await capture.context.resume();
    } catch (error) {
      capture.stop();
      throw asCaptureError(error, denied);
    }
    capture.rate = capture.context.sampleRate;
    capture.media.getAudioTracks()[0].onended = () => capture.onEnd?.();
    return capture;
  }

  async connect() {
    let source;
    try {
      source = this.context.createMediaStreamSource(this.media);
    } catch {
      // Firefox does not resample a microphone; the server does.
      this.context.close();
      this.context = await withWorklet({});
      source = this.context.createMediaStreamSource(this.media);
    }
    this.node = new AudioWorkletNode(this.context, "blocks", { numberOfOutputs: 0 });
    source.connect(this.node);
  }

  start(onBlock, onEnd) {
    this.onEnd = onEnd;
    this.node.port.onmessage = ({ data }) => onBlock(data);
  }

  stop() {
    this.onEnd = null;
    this.media?.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") this.context.close();
  }
}

async function withWorklet(options) {
  const context = new AudioContext(options);
  await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url)).catch(() => {
    context.close();
    throw new CaptureError("unreachable"); // the module comes from the server
  });
  return context;
}

class FileCapture {
  live = false;
  rate = RATE;

  constructor(audio) {
    const channels = Array.from({ length: audio.numberOfChannels }, (_, at) => audio.getChannelData(at));
    this.samples = Int16Array.from(channels[0], (_, at) => {
      const mean = channels.reduce((sum, channel) => sum + channel[at], 0) / channels.length;
      return Math.max(-32768, Math.min(32767, Math.round(32768 * mean)));
    });
  }

  /** In real time. By the clock: timers are late, and later still in hidden tabs. */
  start(onBlock, onEnd) {
    const began = performance.now();
    let sent = 0;
    this.timer = setInterval(() => {
      const due = ((performance.now() - began) / 1000) * RATE;
      while (sent < due && sent < this.samples.length) {
        onBlock(this.samples.slice(sent, sent + RATE / 10));
        sent += RATE / 10;
      }
      if (sent >= this.samples.length) {
        this.stop();
        onEnd();
      }
    }, 100);
  }

  stop() {
    clearInterval(this.timer);
  }
}
