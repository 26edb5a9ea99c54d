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
  try {
    return await LiveCapture.of(await navigator.mediaDevices.getUserMedia({ audio }));
  } catch (error) {
    throw asCaptureError(error, "denied");
  }
}

export async function openTab() {
  if (!canShareTab()) throw new CaptureError(isSecureContext ? "no_tab_audio" : "insecure");
  let media;
  try {
    media = await navigator.mediaDevices.getDisplayMedia({ audio: { suppressLocalAudioPlayback: false }, video: true });
  } catch (error) {
    throw asCaptureError(error, "tab_denied");
  }
  for (const track of media.getVideoTracks()) {
    track.enabled = false; // stopping it would end the audio too
  }
  if (!media.getAudioTracks().length) {
    media.getTracks().forEach((track) => track.stop());
    throw new CaptureError("no_tab_audio");
  }
  return LiveCapture.of(media);
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
  static async of(media) {
    const capture = new LiveCapture();
    capture.media = media;
    const track = media.getAudioTracks()[0];
    capture.name = track.label;
    try {
      [capture.context, capture.source] = audioGraph(media);
      await capture.context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url)).catch(() => {
        throw new CaptureError("unreachable"); // the module comes from the server
      });
      await capture.context.resume();
    } catch (error) {
      capture.stop();
      throw error;
    }
    capture.rate = capture.context.sampleRate;
    track.onended = () => capture.onEnd?.();
    return capture;
  }

  start(onBlock, onEnd) {
    this.onEnd = onEnd;
    const node = new AudioWorkletNode(this.context, "blocks", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => onBlock(data);
    this.source.connect(node);
  }

  stop() {
    this.onEnd = null;
    this.media.getTracks().forEach((track) => track.stop());
    if (this.context?.state !== "closed") this.context?.close();
  }
}

function audioGraph(media) {
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
