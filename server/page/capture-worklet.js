// On the audio thread: mixes all channels to mono 16-bit blocks of a tenth of a second.

class BlockProcessor extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate / 10));
  #filled = 0;

  process([channels]) {
    for (let at = 0; at < (channels[0]?.length ?? 0); at += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[at];
      this.#block[this.#filled] = sum / channels.length;
      this.#filled += 1;
      if (this.#filled === this.#block.length) this.#post();
    }
    return true;
  }

  #post() {
    const samples = Int16Array.from(this.#block, (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x))));
    this.port.postMessage(samples, [samples.buffer]);
    this.#filled = 0;
  }
}

registerProcessor("blocks", BlockProcessor);
