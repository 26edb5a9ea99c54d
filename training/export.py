"""Write the averaged weights as a published checkpoint: what `from_pretrained` expects, half precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from .checkpoint import restore
from .network import Network, build
from .settings import RATE, SCALE, Model, Work
from .text import VOCABULARY

MAX_BYTES = 25 * 2**20


def averaged(work: Work) -> tuple[Wav2Vec2ForCTC, dict[str, int | float]]:
    """The best weights there are (the decayed run's if it exists), and where they stand in training."""
    decayed, stable = work.run / "decay.pt", work.run / "stable.pt"
    state = restore(decayed if decayed.exists() else stable)
    model = build(Model())
    network = Network(model)
    network.load_state_dict(state["network"])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(state["average"]["weights"][name])
    return model.eval(), {"round": state["round"], "step": state["step"], "audio_hours": state["heard"] / 3600}


def export(work: Work, folder: Path) -> int:
    """Save the model with tokenizer and feature extractor to `folder`; the size of the weights in bytes.

    The folder is loaded again and compared, so that a file nobody can read is never shipped.
    """
    model, _ = averaged(work)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY, indent=1) + "\n", encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    with torch.no_grad():  # samples go in as recorded: a model that knows no statistics of its input can run live
        model.wav2vec2.feature_extractor.conv_layers[0].conv.weight *= SCALE
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=False, return_attention_mask=True)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    extractor.save_pretrained(folder)
    model.half().save_pretrained(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    weights.chmod(0o644)
    # Half precision is only how the file is stored: whoever names no type gets one that is fast and exact on any CPU.
    config.write_text(config.read_text(encoding="utf-8").replace('"float16"', '"float32"'), encoding="utf-8")
    size = weights.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{folder}: {size} bytes of weights, more than the {MAX_BYTES} allowed in the package")
    again = Wav2Vec2ForCTC.from_pretrained(folder)
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        if b.dtype != torch.float32 or not torch.equal(a.float(), b):
            raise ValueError(f"{name} changed on the way to the file")
    return size
