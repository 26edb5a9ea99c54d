// On the audio thread: any number of channels to one, a tenth of a second at a time, as 16-bit samples.

class Gather extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate / 10));
  #filled = 0;

  process([channels]) {
    for (let at = 0; at < (channels[0]?.length ?? 0); at += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[at];
      this.#block[this.#filled] = sum / channels.length;
      this.#filled += 1;
      if (this.#filled === this.#block.length) this.#send();
    }
    return true;
  }

  #send() {
    const samples = Int16Array.from(this.#block, (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x))));
    this.port.postMessage(samples, [samples.buffer]);
    this.#filled = 0;
  }
}

registerProcessor("gather", Gather);
