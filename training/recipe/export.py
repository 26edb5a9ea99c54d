"""Write the averaged weights as a published checkpoint, half precision; copy it into the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from ..checkpoint import restore
from ..network import Network
from .model import build, exported
from .runs import finished
from .settings import LIVE_LOOKAHEAD_MS, RATE, SCALE, Model, Work
from .text import VOCABULARY

MAX_BYTES = 25 * 2**20


def chosen(work: Work, count: int = 1) -> list[tuple[Path, dict[str, Any]]]:
    """Return path and state of the latest finished decays, at most `count`, latest first; or of the stable phase if
    there is none. Print which."""
    decays = [(path, restore(path)) for path in work.run.glob("decay*.pt")]
    done = sorted((each for each in decays if finished(each[1])), key=lambda each: -each[1]["step"])[:count]
    stable = work.run / "stable.pt"
    rate = "the rate is zero" if done else "no decay is finished: these weights are from the stable phase"
    taken = done or [(stable, restore(stable))]
    for path, state in taken:
        print(f"{path.name}: {state['round']} rounds, {state['heard'] / 3600:.1f} hours of audio; {rate}", flush=True)
    return taken


def averaged(states: Sequence[dict[str, Any]], shape: Model, others: Sequence[Path] = ()) -> Wav2Vec2ForCTC:
    """The model with the running average of a checkpoint's weights; of several, and of `others` exported before, with
    the mean of these. Its input is samples times `SCALE`.

    Decays of one stable phase end in weights whose mean has fewer errors than each: Wortsman et al., "Model soups:
    averaging weights of multiple fine-tuned models improves accuracy without increasing inference time", ICML 2022.
    """
    network = Network(build(shape))
    network.load_state_dict(states[0]["network"])
    means = [state["average"]["weights"] for state in states]
    means += [dict(exported(folder).named_parameters()) for folder in others]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.stack([weights[name] for weights in means]).mean(0))
    return network.model.eval()


def export(
    work: Work,
    folder: Path,
    shape: Model = Model(),  # noqa: B008 (frozen)
    decays: int = 1,
    others: Sequence[Path] = (),
) -> int:
    """Save the mean of the latest `decays`, and of `others` exported before, with tokenizer and feature extractor to
    `folder`; return the size of the weights in bytes.

    The folder is loaded again and compared: an unreadable file is an error here.
    """
    model = averaged([state for _, state in chosen(work, decays)], shape, others)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY, indent=1) + "\n", encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    with torch.no_grad():  # input is samples as recorded: live steps have no statistics of the utterance
        model.wav2vec2.feature_extractor.conv_layers[0].conv.weight *= SCALE
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=False, return_attention_mask=True)
    model.config.live_lookahead_ms = LIVE_LOOKAHEAD_MS
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    extractor.save_pretrained(folder)
    model.half().save_pretrained(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    weights.chmod(0o644)
    # The file is in half precision, but the default for loading is single precision, which is fast on any CPU.
    config.write_text(config.read_text(encoding="utf-8").replace('"float16"', '"float32"'), encoding="utf-8")
    size = weights.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{folder}: {size} bytes of weights, more than the {MAX_BYTES} allowed in the package")
    again = Wav2Vec2ForCTC.from_pretrained(folder)
    for (name, a), b in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        if b.dtype != torch.float32 or not torch.equal(a.float(), b):
            raise ValueError(f"{name} changed on the way to the file")
    return size


def package(work: Work, checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint with its calibration, and the language model if there is one, over the packaged ones."""
    for source, target, names in (
        (checkpoint, folder, [path.name for path in checkpoint.iterdir()]),
        (work.root / "lm", folder / "language_model", ["words.binary", "lexicon.txt", "attrs.json"]),
    ):
        for name in names:
            if (source / name).exists():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target / name)
                print(target / name)
