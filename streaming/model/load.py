"""Loading a checkpoint: a directory in Hugging Face's layout, or a name on the hub, by transformers.

Weights are read from safetensors alone and no code of a checkpoint is run. Whatever goes wrong becomes a `ModelError`
of one sentence.
"""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
import transformers
from safetensors import SafetensorError
from torch.nn.utils import parametrize

from ..config import Dtype, ModelOptions, SessionConfig
from ..ctc.vocabulary import Vocabulary
from ..errors import ModelError
from ..frames import FIELD, SAMPLE_RATE, STRIDE, geometry
from . import hub
from .cache import CacheManager
from .encoder import ModelInfo, XlsrEncoder
from .full_pass import PassEncoder
from .int8 import quantize, supported
from .layers import XlsrLayers, flop_per_frame
from .readback import BEST
from .runners import EagerRunner, GraphRunner, Runner
from .step import StepEncoder

BUNDLED = Path(__file__).parents[1] / "bundled"
_GPU_BATCH = 64
_GPU_UTTERANCES = 256  # that speak at a time before room for them must grow
_GPU_PASS_FLOP = 1e13  # of a batch of whole passes: some tens of milliseconds, where live steps wait
_CPU_MEMORY = 2 << 30  # bytes that cached steps may take at most
_SMALL = 50e6  # parameters
_SHAPES = 64  # of which oneDNN keeps what it has prepared
_GPU_MEMORY_SHARE = 0.6  # of what is free when the model has been loaded

# transformers' classes are made with decorators that hide their types.
_Config: Any = transformers.Wav2Vec2Config
_Extractor: Any = transformers.Wav2Vec2FeatureExtractor
_Tokenizer: Any = transformers.Wav2Vec2CTCTokenizer
_Model: Any = transformers.Wav2Vec2ForCTC

log = logging.getLogger("xlsr_live.model")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a checkpoint comes from, as `from_pretrained` takes it."""

    name: str
    path: str
    options: dict[str, Any]


def load(options: ModelOptions, source: Source | None = None) -> XlsrEncoder:
    """Load a checkpoint from `source`, by default where `find_source` finds it. Raises `ModelError`."""
    source = source or find_source(options.model, options.revision)
    language, threads = options.language, options.threads
    where = _device(options.device)
    kind = _dtype(options.dtype, where)
    transformers.utils.logging.disable_progress_bar()
    try:
        config = _Config.from_pretrained(source.path, **source.options)
        _check_config(source, config, language)
        extractor = _Extractor.from_pretrained(source.path, **source.options)
        tokenizer = _load_tokenizer(source, language)
        model = _load_model(source, language)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise _explained(source, language, error) from error
    if extractor.sampling_rate != SAMPLE_RATE:
        raise ModelError(
            f"{source.name} wants audio at {extractor.sampling_rate} Hz; only {SAMPLE_RATE} Hz checkpoints work"
        )
    if where.type == "cpu":
        # oneDNN keeps what it has prepared for the last 1,024 shapes: hundreds of MiB, as every utterance has another
        # length, and no faster. It reads this when it is first used.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_SHAPES))
    if threads is None and where.type == "cpu" and model.num_parameters() < _SMALL:
        threads = 1  # threads that wait for each other would cost more than they save
    if threads is not None:
        torch.set_num_threads(threads)
    model = model.to(device=where, dtype=kind)
    encoder = assemble(
        model,
        _vocabulary(tokenizer, model.config.vocab_size),
        name=source.name,
        normalized=bool(extractor.do_normalize),
        int8=options.dtype == "int8",
        language=language,
        max_batch=options.max_batch,
    )
    if where.type == "cuda" and encoder.cached:
        begun = time.monotonic()
        log.info("preparing %s on %s for live steps", source.name, where)
        encoder.prepare(SessionConfig(), utterances=_GPU_UTTERANCES)
        log.info("prepared in %.1f s", time.monotonic() - begun)
    return encoder


def find_source(name: str, revision: str | None = None) -> Source:
    """Where a checkpoint of that name lies. Raises `ModelError`."""
    if name == "bundled":
        return Source(name, str(BUNDLED), {})
    path = Path(name).expanduser()
    if name and path.is_dir():
        _check_directory(path)
        return Source(name, str(path), {})
    if name and path.exists():
        raise ModelError(
            f"{name} is a file; a model is a directory (config.json, model.safetensors, ...) or a hub name"
        )
    if name.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise ModelError(f"{name or 'an empty name'}: no such directory, and not a Hugging Face name (owner/model)")
    # Without the hub the cache is asked alone, at once: transformers would try every file again and again first.
    local = hub.offline() or hub.problem() is not None
    return Source(name, name, {"local_files_only": local} | ({"revision": revision} if revision else {}))


def _check_directory(path: Path) -> None:
    needed = {
        "config.json": ("config.json",),
        "vocab.json": ("vocab.json", "tokenizer.json"),
        "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
    }
    for name, choices in needed.items():
        if not any((path / choice).is_file() for choice in choices):
            raise ModelError(f"{path} holds no {name}: not a whole checkpoint in Hugging Face's layout")
    if any((path / file).is_file() for file in ("model.safetensors", "model.safetensors.index.json")):
        return
    if any(path.glob("*.bin")) or any(path.glob("*.pt")) or any(path.glob("*.ckpt")):
        raise ModelError(
            f"{path} holds only pickled weights, which can run code when loaded; only safetensors are read. "
            "Convert it: Wav2Vec2ForCTC.from_pretrained(DIR).save_pretrained(NEW_DIR) where you trust the source"
        )
    raise ModelError(f"{path} holds no weights: model.safetensors is missing")


def _check_config(source: Source, config: Any, language: str | None) -> None:
    architectures: list[str] = config.architectures or []
    if config.model_type != "wav2vec2" or "Wav2Vec2ForCTC" not in architectures:
        found = ", ".join(architectures) or config.model_type
        hint = "; it is a pre-trained base without a CTC head: pick a fine-tuned one" if "PreTrain" in found else ""
        raise ModelError(f"{source.name} is {found}, not Wav2Vec2ForCTC{hint}")
    if geometry(config.conv_kernel, config.conv_stride) != (STRIDE, FIELD) or config.add_adapter:
        raise ModelError(f"{source.name} does not make one frame of every {STRIDE} samples as XLS-R does")
    if language is not None and config.adapter_attn_dim is None:
        raise ModelError(f"{source.name} has no language adapters; leave the language out")


def _load_tokenizer(source: Source, language: str | None) -> Any:
    """A multilingual vocabulary is one of dictionaries, by language; the tokenizer cannot do without a choice."""
    if language is not None:
        return _Tokenizer.from_pretrained(source.path, **source.options, target_lang=language)
    try:
        return _Tokenizer.from_pretrained(source.path, **source.options)
    except TypeError as error:
        raise ModelError(f"{source.name} has a vocabulary for each language; say which language") from error


def _load_model(source: Source, language: str | None) -> Any:
    model, report = _Model.from_pretrained(
        source.path,
        **source.options,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa",
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise ModelError(f"{source.name} lacks weights ({', '.join(missing[:3])}, ...): it cannot recognize anything")
    if language is not None:
        model.load_adapter(language, use_safetensors=True, **source.options)
    return model.eval()


def _explained(source: Source, language: str | None, error: Exception) -> ModelError:
    """One sentence out of transformers' many."""
    log.debug("loading %s", source.name, exc_info=error)
    first = str(error).strip().split("\n")[0]
    if source.path == source.name and ("connect" in str(error) or "offline" in str(error).lower()):
        return ModelError(
            f"{source.name} is not in the local cache and the Hugging Face hub cannot be reached. "
            "Connect once to download it, or give a local directory"
        )
    if source.path == source.name and "safetensors" in str(error):
        return ModelError(f"{source.name} has no safetensors weights on the hub: {first}")
    spoken = f" for language {language!r}" if language else ""
    return ModelError(f"{source.name} cannot be loaded{spoken}: {first}")


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"{device!r} is not a device; say auto, cpu or cuda") from error
    if found.type not in ("cpu", "cuda"):
        raise ModelError(f"{device!r} is not supported; say auto, cpu or cuda")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device is available here; ask for the device cpu")
    return found


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    """That of the model; with "int8", of all but the products of its layers."""
    if dtype not in get_args(Dtype):
        raise ModelError(f"{dtype!r} is not a number format; say {', '.join(get_args(Dtype))}")
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if dtype == "int8":
        if device.type != "cpu" or not supported():
            raise ModelError("int8 needs the device cpu and a processor with AVX-512 VNNI; say bfloat16 or float32")
        fast = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]
        return torch.bfloat16 if fast else torch.float32
    return getattr(torch, dtype)


def _bake_weight_norm(model: Any) -> None:
    """The positional convolution's weight norm is for training; computed once it gives the same weight."""
    conv = model.wav2vec2.encoder.pos_conv_embed.conv
    if parametrize.is_parametrized(conv, "weight"):
        parametrize.remove_parametrizations(conv, "weight", leave_parametrized=True)


def assemble(
    model: Any,
    vocabulary: Vocabulary,
    *,
    name: str,
    normalized: bool,
    language: str | None = None,
    max_batch: int | None = None,
    int8: bool = False,
    programs: Runner | None = None,
) -> XlsrEncoder:
    """The encoder of a model that is on its device, with the products of its layers in 8-bit integers if so wanted;
    `programs` as the device wants them by default."""
    device, config = model.device, model.config
    on_gpu = device.type == "cuda"
    _bake_weight_norm(model)
    parameters = sum(p.numel() for p in model.parameters())
    cached = wholes = None
    # Frames of a CNN with group norm depend on the whole input, so they cannot be made once and kept.
    if config.feat_extract_norm == "layer" and config.do_stable_layer_norm:
        body = XlsrLayers(model)
        if int8:
            body.quantize()
        programs = programs or (GraphRunner(device) if on_gpu else EagerRunner(device))
        best = BEST if on_gpu else None
        memory = int(_GPU_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]) if on_gpu else _CPU_MEMORY
        places = CacheManager(body.pool, most_bytes=memory)
        cached = StepEncoder(body, places, programs, best=best)
        wholes = PassEncoder(body, places, programs, best=best)
    elif int8:
        quantize(model.wav2vec2.encoder.layers)
    info = ModelInfo(
        name=name,
        parameters=parameters,
        device=str(device),
        dtype="int8" if int8 else str(model.dtype).removeprefix("torch."),
        vocabulary=len(vocabulary),
        language=language,
        modes=("cached", "window", "offline") if cached else ("window", "offline"),
    )
    return XlsrEncoder(
        model,
        vocabulary,
        info,
        normalized=normalized,
        max_batch=max_batch or (_GPU_BATCH if on_gpu else 1),
        most_samples=_GPU_PASS_FLOP / flop_per_frame(config) * STRIDE if on_gpu else math.inf,
        cached=cached,
        wholes=wholes,
    )


def _vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    tokens = [""] * size
    for token, index in tokenizer.get_vocab().items():
        if index < size:  # tokenizers may know tokens that the head cannot emit
            tokens[index] = token
    blank: int | None = tokenizer.pad_token_id
    if blank is None or blank >= size:
        raise ModelError("the tokenizer has no padding token, which is CTC's blank")
    special: tuple[str | None, ...] = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token)
    return Vocabulary.from_tokens(
        tokens,
        blank=blank,
        delimiter=tokenizer.word_delimiter_token,
        silent=[token for token in special if token],
        lower=bool(tokenizer.do_lower_case),
    )
