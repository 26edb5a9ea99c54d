"""Fine-tuning: a killed run ends as an unbroken one, every kind of base trains, and what comes out loads elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining
from xlsr_live.client.bench.corpus import read_corpus
from xlsr_live.streaming.errors import ModelError
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.training.base import find_base, load_base
from xlsr_live.training.batch import Batch
from xlsr_live.training.curves import read_history
from xlsr_live.training.errors import TrainingError
from xlsr_live.training.finetune import FineTuner
from xlsr_live.training.learner import Learner
from xlsr_live.training.memory import PROGRAM, USABLE, fit, kept_per_second
from xlsr_live.training.methods import merge, optimiser, prepare
from xlsr_live.training.network import Network, StepLengths
from xlsr_live.training.recordings import Listed
from xlsr_live.training.run import FineTuneRequest, FineTuneRun
from xlsr_live.training.settings import FineTuning

from tests.support.checkpoints import SMALL, SMALL_GROUP_NORM, SPECIAL, XLSR_300M, publish, publish_multilingual
from tests.support.spoken_tables import write_table

TINY = SMALL | {"num_conv_pos_embedding_groups": 2, "hidden_dropout": 0.0, "activation_dropout": 0.0}
TOKENS = (*SPECIAL, "|", *"ABCDEF")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[Listed]:
    path = write_table(tmp_path_factory.mktemp("speech"))
    return [Listed(each.path, each.text, each.speaker) for each in read_corpus(path)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("base") / "ctc", TINY, TOKENS)


def start(base: Path | str, out: Path, table: list[Listed], **how: object) -> FineTuneRun:
    settings = {"steps": 6, "batch_seconds": 12.0, "threads": 2, "device": "cpu", **how}
    run = FineTuneRun(FineTuneRequest(str(base), out, **settings), lambda sentence: None)
    run.look(table, None)
    run.load()
    return run


def finish(run: FineTuneRun) -> FineTuneRun:
    assert run.train(lambda position, done: None, lambda found: None, lambda: False)
    run.export()
    return run


def weights(run: FineTuneRun) -> dict[str, torch.Tensor]:
    return dict(run.tuner.learner.network.named_parameters())


# ── the run ──


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_killed_after_any_step_ends_with_the_bits_of_an_unbroken_one(
    method: str, base: Path, table: list[Listed], tmp_path: Path
):
    whole = finish(start(base, tmp_path / "whole", table, method=method))
    cut = tmp_path / "cut"
    for _ in range(20):
        run = start(base, cut, table, method=method)  # as a new process begins: nothing but the folder is left
        run.how = replace(run.how, save_seconds=-1.0)
        seen = []

        def kill(position: object, done: float, seen: list[float] = seen) -> None:
            seen.append(done)
            if len(seen) == 2:
                raise KeyboardInterrupt  # before the update is saved

        try:
            if run.train(kill, lambda found: None, lambda: False):
                break
        except KeyboardInterrupt:
            continue
    run.export()
    for (name, want), got in zip(weights(whole).items(), weights(run).values(), strict=True):
        assert torch.equal(want, got), name
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_batches_made_ahead_change_nothing(
    base: Path, table: list[Listed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = finish(start(base, tmp_path / "plain", table))
    made = FineTuner.__init__
    monkeypatch.setattr(FineTuner, "__init__", lambda *given, **how: made(*given, **{**how, "makers": 2}))
    ahead = finish(start(base, tmp_path / "ahead", table))
    for want, got in zip(weights(plain).values(), weights(ahead).values(), strict=True):
        assert torch.equal(want, got)


def test_a_request_to_stop_saves_and_the_same_command_continues(base: Path, table: list[Listed], tmp_path: Path):
    run = start(base, tmp_path / "out", table)
    assert not run.train(lambda position, done: None, lambda found: None, lambda: True)
    again = start(base, tmp_path / "out", table)
    assert again.train(lambda position, done: None, lambda found: None, lambda: False)
    assert again.tuner.position.step == 6
    with pytest.raises(TrainingError, match="other data or settings"):
        start(base, tmp_path / "out", table, rate=0.5).train(lambda *_: None, lambda _: None, lambda: False)
    fresh = start(base, tmp_path / "out", table, rate=0.5, restart=True)
    assert fresh.train(lambda *_: None, lambda _: None, lambda: False)


def limit_files(size: int | None) -> None:
    """No file may grow beyond `size` bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@pytest.fixture
def disk() -> Iterator[Callable[[int | None], None]]:
    yield limit_files
    limit_files(None)


def test_a_disk_that_is_full_for_a_while_does_not_end_a_run(
    base: Path, table: list[Listed], tmp_path: Path, disk: Callable[[int | None], None]
):
    whole = finish(start(base, tmp_path / "whole", table))
    run, said = start(base, tmp_path / "out", table), []
    run.how, run.say = replace(run.how, save_seconds=-1.0), said.append
    assert run.train(lambda at, _: disk(100 if 2 <= at.step < 6 else None), lambda _: None, lambda: False)
    assert sum("Not saved" in sentence for sentence in said) >= 4
    rows = read_history(tmp_path / "out" / ".training" / "history.jsonl")
    assert (rows[0].step, rows[-1].step) == (0, 6)
    again = start(base, tmp_path / "out", table)
    assert again.train(lambda *_: None, lambda _: None, lambda: False)  # the last state is on the disk
    assert again.tuner.position.step == 6
    for want, got in zip(weights(whole).values(), weights(again).values(), strict=True):
        assert torch.equal(want, got)


def test_a_stop_with_a_full_disk_is_an_error_that_keeps_the_last_state(
    base: Path, table: list[Listed], tmp_path: Path, disk: Callable[[int | None], None]
):
    run, stop = start(base, tmp_path / "out", table), iter([False, True])
    run.how = replace(run.how, save_seconds=-1.0)
    with pytest.raises(TrainingError, match=r"cannot write .*: File too large; .* continues from the last saved state"):
        run.train(lambda at, _: disk(100 if at.step == 2 else None), lambda _: None, lambda: next(stop))
    disk(None)
    assert not list((tmp_path / "out" / ".training").glob("*.part"))
    again = start(base, tmp_path / "out", table)
    assert not again.train(lambda *_: None, lambda _: None, lambda: True)
    assert again.tuner.position.step == 2


def test_a_checkpoint_that_cannot_be_written_is_written_by_the_next_command(
    base: Path, table: list[Listed], tmp_path: Path, disk: Callable[[int | None], None]
):
    run = start(base, tmp_path / "out", table)
    assert run.train(lambda *_: None, lambda _: None, lambda: False)
    disk(20_000)
    with pytest.raises(TrainingError, match="the same command tries again with the trained weights"):
        run.export()
    disk(None)
    again = finish(start(base, tmp_path / "out", table))
    for want, got in zip(weights(run).values(), weights(again).values(), strict=True):
        assert torch.equal(want, got)


def test_it_learns_the_words_of_a_small_table(base: Path, table: list[Listed], tmp_path: Path):
    found = []
    run = start(base, tmp_path / "out", table, steps=30, rate=5.0)
    assert run.train(lambda *_: None, found.append, lambda: False)
    losses = [each.loss for each in found if each.loss is not None]
    assert losses[-1] < 0.7 * losses[0]
    assert [each.step for each in found] == sorted({each.step for each in found})


def test_a_loss_that_is_not_finite_and_an_output_that_stays_blank_end_with_a_sentence(
    base: Path, table: list[Listed], tmp_path: Path
):
    run = start(base, tmp_path / "nan", table, steps=100)
    with torch.no_grad():
        next(p for p in run._network.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite in 20 updates"):
        run.train(lambda *_: None, lambda _: None, lambda: False)
    run = start(base, tmp_path / "blank", table, rate=0.001)
    with torch.no_grad():
        run._network.model.lm_head.bias[0] = 100.0
    with pytest.raises(TrainingError, match="still blank"):
        run.train(lambda *_: None, lambda _: None, lambda: False)


def test_a_run_whose_validation_gets_no_better_ends_early(
    base: Path, table: list[Listed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = start(base, tmp_path / "out", table, steps=40, rate=0.001)
    run.how = replace(run.how, evaluations=40, patience=3)
    rates = iter([0.5, 0.4, *[0.6] * 50])
    monkeypatch.setattr(FineTuner, "_rate", lambda self, stream: (next(rates) if stream else 0.5, ["a"]))
    finish(run)
    assert run.tuner.position.best_step == 1
    assert "has not improved for" in run.tuner.position.ended
    assert run.tuner.position.step < 40


def test_threads_and_parts_do_not_change_the_sum_of_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # without the rounding of bfloat16
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, vocab_size=11, mask_time_prob=0.0)).train()
    rows = [torch.randn(16_000) for _ in range(4)]

    def batch(chosen: list[torch.Tensor]) -> Batch:
        count = len(chosen)
        none = torch.zeros(count, 49, dtype=torch.bool)
        labels = torch.tensor([5, 6] * count)
        return Batch(torch.stack(chosen), torch.tensor([16_000] * count), labels, torch.tensor([2] * count), none)

    found = []
    for threads, parts in ((1, [rows]), (2, [rows[:2], rows[2:]]), (2, [[row] for row in rows])):
        network = Network(model)
        how = FineTuning(steps=1, minutes=None, batch_seconds=4, peak=0.0, head_peak=0.0)
        learner = Learner(network, [optimiser(network, how)], device=torch.device("cpu"), threads=threads)
        gradients: list[torch.Tensor] = []
        learner._reduce = lambda tensors, kept=gradients: kept.extend(t.clone() for t in tensors)
        learner.update([lambda part=part: batch(part) for part in parts], 8, 1.0, StepLengths(10, 5, 50), 0)
        found.append(gradients)
    for other in found[1:]:
        for want, got in zip(found[0], other, strict=True):
            assert torch.allclose(want, got, rtol=1e-4, atol=1e-5)


def test_recomputed_layers_have_the_same_gradients():
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, vocab_size=11, mask_time_prob=0.0)).train()
    samples, lengths = torch.randn(1, 16_000), torch.tensor([16_000])
    found = []
    for recompute in (False, True):
        out = Network(model, recompute=recompute)(samples, lengths, StepLengths(10, 5, 50))[0]
        found.append(torch.autograd.grad(out.square().sum(), list(model.wav2vec2.encoder.layers.parameters())))
    assert all(torch.equal(want, got) for want, got in zip(*found, strict=True))


# ── bases ──


def pretrained(folder: Path, size: dict, *, pickled: bool = True) -> Path:
    """A checkpoint in the layout of facebook/wav2vec2-xls-r-300m: no vocabulary, no head, pytorch_model.bin."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(**size, vocab_size=32, proj_codevector_dim=8, codevector_dim=8, num_codevectors_per_group=4)
    model = Wav2Vec2ForPreTraining(config)
    folder.mkdir(parents=True)
    model.config.architectures = ["Wav2Vec2ForPreTraining"]
    model.config.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder)
    return folder


def heard(folder: Path, table: list[Listed], **options: str) -> tuple[Recognizer, list[np.ndarray]]:
    recognizer = Recognizer.load(str(folder), device="cpu", lm="none", **options)
    audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    return recognizer, recognizer.encoder.encode([audio])


@pytest.mark.parametrize("pickled", [True, False])
def test_a_base_without_a_head_gets_the_vocabulary_of_the_texts_and_serves(
    pickled: bool, table: list[Listed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = finish(start(pretrained(tmp_path / "base", TINY, pickled=pickled), tmp_path / "out", table))
    recognizer, (rows,) = heard(tmp_path / "out", table)
    with recognizer:
        assert recognizer.encoder.normalized
        assert recognizer.info.modes[0] == "cached"
        assert set("".join(recognizer.encoder.vocabulary.texts)) == set(" ABCDEF")
    want = weights(run)
    assert rows.shape[1] == len(run.survey.vocabulary)
    assert want["model.lm_head.weight"].shape[0] == rows.shape[1]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_export_gives_what_the_trained_network_gives(method: str, base: Path, table: list[Listed], tmp_path: Path):
    run = start(base, tmp_path / "out", table, method=method, rate=5.0)
    assert run.train(lambda *_: None, lambda _: None, lambda: False)
    samples = torch.randn(1, 16_000)
    network = run.tuner.learner.network.eval()
    with torch.inference_mode():
        want = network(samples, torch.tensor([16_000]))[0].log_softmax(-1)
    run.export()
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        got = model(samples).logits.log_softmax(-1)
    assert torch.allclose(got, want, atol=1e-4)
    assert "lora" not in "".join(model.state_dict())


def test_a_new_head_keeps_the_rows_of_known_characters(base: Path):
    old = load_base(find_base(str(base)), None).lm_head.weight
    new = load_base(find_base(str(base)), (*SPECIAL, "|", "b", "ü"), seed=3).lm_head.weight
    assert torch.equal(new[0], old[0])
    assert torch.equal(new[4:6], old[[4, 6]])


LANGUAGES = {"eng": (*SPECIAL, "|", *"ABCDEF"), "fra": (*SPECIAL, "|", *"ABCDEFGH")}


@pytest.mark.parametrize("language", ["deu", "fra"])
def test_an_adapter_trains_and_loads_beside_the_others(language: str, table: list[Listed], tmp_path: Path):
    base = publish_multilingual(tmp_path / "base", LANGUAGES, target="eng")
    before = {path.name: (path.read_bytes(), path.stat().st_mode) for path in base.iterdir()}
    run = finish(start(base, tmp_path / "out", table, language=language))
    trained = {name for name, p in run._network.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("adapter_layer" in name or name.startswith("lm_head") for name in trained)
    assert {path.name: (path.read_bytes(), path.stat().st_mode) for path in base.iterdir()} == before
    # transformers' own way to load an adapter: from our folder, and from the base with the file beside the others
    shutil.copyfile(tmp_path / "out" / f"adapter.{language}.safetensors", base / f"adapter.{language}.safetensors")
    samples = torch.randn(1, 16_000)
    logits = []
    for folder in (tmp_path / "out", base):
        model = Wav2Vec2ForCTC.from_pretrained(folder).eval()
        model.load_adapter(language, use_safetensors=True)
        with torch.inference_mode():
            logits.append(model(samples).logits)
    own = run._network.model.eval()
    with torch.inference_mode():
        logits += [own(samples).logits, Network(own)(samples, torch.tensor([16_000]))[0]]
    assert torch.allclose(logits[0], logits[1])
    assert torch.allclose(logits[0], logits[2], atol=1e-5)
    assert torch.allclose(logits[0], logits[3], atol=1e-4)
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "out", target_lang=language)
    assert tokenizer.decode([5]) == "A"
    for each in {*LANGUAGES, language}:
        recognizer, _ = heard(tmp_path / "out", table, language=each)
        recognizer.close()


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (SMALL_GROUP_NORM, {}, "cannot hear live steps"),
        (TINY, {"adapter": "deu"}, "no language adapters; leave --adapter out"),
        (TINY | {"adapter_attn_dim": 8}, {}, "name the one to train with --adapter"),
        (TINY | {"conv_stride": (5, 2, 2, 2, 2, 2, 1)}, {}, "one frame of every 320 samples"),
    ],
)
def test_a_base_that_cannot_work_is_refused_with_a_sentence(size: dict, options: dict, message: str, tmp_path: Path):
    publish(tmp_path / "base", size, TOKENS)
    with pytest.raises(ModelError, match=message):
        find_base(str(tmp_path / "base"), **options)


def test_a_folder_with_other_files_is_no_place_for_a_checkpoint(base: Path, table: list[Listed], tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(TrainingError, match="holds other files"):
        start(base, tmp_path, table)


# ── memory ──


def test_the_estimate_of_memory_is_near_what_autograd_keeps():
    size = XLSR_300M | {"num_hidden_layers": 2, "hidden_size": 256, "intermediate_size": 1024}
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**size, vocab_size=32)).train()
    model.wav2vec2.feature_extractor.requires_grad_(False)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def kept(seconds: int) -> float:
        seen: dict[int, int] = {}
        alive: list[torch.Tensor] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)
            return tensor

        with (
            torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            Network(model)(torch.randn(1, 16_000 * seconds), torch.tensor([16_000 * seconds]), StepLengths(24, 24, 200))
        return float(sum(seen.values()))

    measured = (kept(4) - kept(2)) / 2
    assert 0.5 < kept_per_second(model.config, recompute=False) / measured < 2


def test_steps_are_cut_to_fit_the_memory_and_too_little_is_an_error():
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, vocab_size=32))
    ample = fit(model, free=64e9, longest=10.0, batch_seconds=32.0, threads=2)
    assert (ample.part_seconds, ample.threads, ample.recompute) == (16.0, 2, False)
    enough = PROGRAM + 0.7 * (ample.bytes - PROGRAM)
    tight = fit(model, free=enough / USABLE, longest=10.0, batch_seconds=32.0, threads=2)
    assert tight.bytes < ample.bytes
    assert tight.part_seconds >= 10.0
    # The longest recording must fit, however small the steps and the parts are.
    small = fit(model, free=64e9, longest=20.0, batch_seconds=2.0, threads=2)
    assert small.part_seconds == 1.0
    least = small.bytes / USABLE
    assert fit(model, free=least * 1.001, longest=20.0, batch_seconds=2.0, threads=2).bytes == small.bytes
    less = fit(model, free=least * 0.999, longest=20.0, batch_seconds=2.0, threads=2)
    assert less.recompute
    assert less.bytes < small.bytes
    many = fit(model, free=64e9, longest=20.0, batch_seconds=32.0, threads=8)
    assert (many.part_seconds, many.threads) == (4.0, 8)  # a long recording leaves the other threads their parts
    with pytest.raises(TrainingError, match=r"needs \d+\.\d GB of free memory"):
        fit(model, free=2e6, longest=10.0, batch_seconds=32.0, threads=2)


def test_lora_trains_little_and_merges_into_plain_weights(base: Path):
    model = load_base(find_base(str(base)), None)
    names = set(model.state_dict())
    model = prepare(model, "lora", seed=1)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("lora" in name or "lm_head" in name for name in trained)
    assert set(merge(model, "lora").state_dict()) == names
