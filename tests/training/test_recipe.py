"""The training recipe on synthetic speech with a tiny model, and the word error rate of the packaged model."""

from __future__ import annotations

import lzma
import signal
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from xlsr_live.client.sources.clips import load_clips
from xlsr_live.streaming.frames import frames, span
from xlsr_live.streaming.recognizer import Recognizer
from xlsr_live.training import checkpoint
from xlsr_live.training.base import find_base, load_base
from xlsr_live.training.network import Network, StepLengths
from xlsr_live.training.recipe.books import dialogue, sentences
from xlsr_live.training.recipe.curves import read_history
from xlsr_live.training.recipe.export import averaged, chosen, export, package
from xlsr_live.training.recipe.kokoro import COVER, plan
from xlsr_live.training.recipe.lm import thinned
from xlsr_live.training.recipe.model import build
from xlsr_live.training.recipe.phrases import align, boundaries
from xlsr_live.training.recipe.plan import Step, longest_utterance, plan_round
from xlsr_live.training.recipe.prepare import (
    HELD_VOICES,
    Utterance,
    noise_in,
    read_table,
    speech_in,
    split,
)
from xlsr_live.training.recipe.settings import FRAME, HOP, RATE, SCALE, Options, Schedule, Work
from xlsr_live.training.recipe.text import BLANK, encode
from xlsr_live.training.recipe.train import Trainer
from xlsr_live.training.settings import Augmentation

from tests.support.cached_reference import Utterance as Steps
from tests.support.cached_reference import fresh
from tests.support.paths import SPEECH
from tests.support.small_recipe import BRIEF, TINY, options, weights
from tests.support.speech import needs_speech

# ── data ──


@needs_speech
def test_held_out_speakers_and_sentences_are_not_trained_on():
    speech = SPEECH.parent
    parts: dict[str, dict[str, list[Utterance]]] = defaultdict(lambda: defaultdict(list))
    for u in split(speech_in(speech / "train") + noise_in(speech)):
        parts[u.corpus]["train" if u.split == "train" else "held"].append(u)
    for corpus in ("librispeech", "an4", "speechocean762", "noise"):
        assert not {u.speaker for u in parts[corpus]["train"]} & {u.speaker for u in parts[corpus]["held"]}, corpus
    assert not {u.text for u in parts["kathleen"]["train"]} & {u.text for u in parts["kathleen"]["held"]}
    assert len({u.speaker.split("-")[0] for u in parts["noise"]["held"]}) == 10
    tested = {row["file"].split("-")[2] for row in read_table(speech / "test" / "test.tsv") if "noise/" in row["file"]}
    assert not tested & {u.speaker.split("-")[1] for part in parts["noise"].values() for u in part}


def test_the_text_for_the_language_model_has_no_sentence_that_is_held_out(tmp_path: Path):
    texts = [f"{name} WENT DOWN TO THE RIVER WITH THE BOYS" for name in ("ANN", "BEN", "CAT", "DAN", "EVE", "FAY")]
    rows = [f"s.opus\t0\t16000\tkathleen\tk\t{text}" for text in (*texts[:5], *map(str, range(80)))]
    (tmp_path / "train").mkdir()
    header = "shard\tstart_sample\tnum_samples\tcorpus\tspeaker\ttext"
    (tmp_path / "train" / "train.tsv").write_text("\n".join((header, *rows)) + "\n")
    held = {u.text for u in split(speech_in(tmp_path / "train")) if u.split != "train"}
    assert held & set(texts)
    lines = [*texts, "AND THEN HE WENT DOWN TO THE RIVER WITH JOY", "THEY WENT DOWN TO THE CELLAR", *sorted(held)]
    (tmp_path / "lm").mkdir()
    with lzma.open(tmp_path / "lm" / "english.txt.xz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    assert sentences(tmp_path) == ["THEY WENT DOWN TO THE CELLAR"]
    assert dialogue(tmp_path) == []
    (tmp_path / "lm" / "english.txt.xz").rename(tmp_path / "lm" / "spoken.txt.xz")
    assert dialogue(tmp_path) == ["THEY WENT DOWN TO THE CELLAR"]


@needs_speech
def test_two_synthetic_voices_are_only_in_validation():
    kokoro = [u for u in split(speech_in(SPEECH.parent / "train")) if u.corpus == "kokoro"]
    for voice in HELD_VOICES:
        assert {u.split for u in kokoro if u.speaker == voice} <= {"validation", "unused"}
        assert {u.split for u in kokoro if voice in u.speaker} == {"validation", "unused"}


def test_the_first_sentences_that_kokoro_reads_hold_every_frequent_word_often_enough():
    draw = np.random.default_rng(0)
    words = [f"W{number}" for number in range(300)]
    lines = [" ".join(words[min(299, int(rank))] for rank in draw.pareto(0.7, 12)) for _ in range(3000)]
    texts = plan(lines[:1500], lines[1500:])
    assert sorted(texts) == sorted(lines)
    first = texts[: len(texts) // 2]
    for word in words:
        count = sum(line.split().count(word) for line in texts)
        assert sum(line.split().count(word) for line in first) >= min(count, COVER[-1][1])


def test_thinned_dialogue_keeps_every_word():
    lines = [f"I WANT NUMBER {'A' * (number % 7)} PLEASE" for number in range(100)]
    kept = thinned(lines, ["I WANT"])
    assert {word for line in kept for word in line.split()} == {word for line in lines for word in line.split()}
    assert len(kept) < 60


def planned(number: int, utterances: list[Utterance]) -> list[Step]:
    return plan_round(number, utterances, 32.0, 2, Schedule(round_hours=0.2), Augmentation())


def test_a_round_is_reproducible_different_from_the_next_and_within_its_limits():
    draw = np.random.default_rng(0)
    corpora = ("librispeech", "an4", "kathleen", "fsdd", "noise")
    utterances = [
        Utterance("real", at, int(draw.integers(8_000, 200_000 if at % 5 < 3 else 80_000)), c, f"s{at % 7}", "train", c)
        for at, c in enumerate(corpora * 40)
    ]
    for number in (0, 3, 50):
        steps = planned(number, utterances)
        assert steps == planned(number, utterances)
        assert steps != planned(number + 1, utterances)
        limit = longest_utterance(number, Schedule()) * RATE
        items = [item for step in steps for part in step for item in part]
        assert {u.corpus for item in items for u in item.parts} == {*corpora}
        assert all(sum(u.samples for u in item.parts) <= limit for item in items)
        assert all(
            len(part) == 1 or len(part) * max(item.samples for item in part) <= 16 * RATE
            for step in steps
            for part in step
        )


def log_probabilities(text: str, at: list[int], count: int) -> NDArray[np.float32]:
    """Rows with each character of `text` in one frame and blanks in the others."""
    rows = np.full((count, 32), 0.001)
    rows[:, BLANK] = 1
    for label, frame in zip(encode(text), at, strict=True):
        rows[frame, BLANK], rows[frame, label] = 0.001, 1
    return np.log(rows / rows.sum(1, keepdims=True)).astype(np.float32)


def test_words_are_cut_at_the_quiet_point_between_their_letters():
    at = [3, 5, 7, 14, 22, 23, 25]
    logp = log_probabilities("ALL TOO", at, 30)
    assert align(logp, encode("ALL TOO")).tolist() == at
    assert align(logp, encode("WE HAVE")) is None
    audio = np.random.default_rng(0).normal(0, 0.1, FRAME + 29 * HOP)
    quiet = slice(10 * HOP, 11 * HOP)
    audio[quiet] *= 0.001
    start, cut, end = boundaries(audio, "ALL TOO", logp)
    assert (start, end) == (0, len(audio))
    assert quiet.start < cut < quiet.stop


# ── the run ──


def test_a_run_killed_after_every_step_gives_the_weights_of_an_uninterrupted_one(work: Work, tmp_path: Path):
    assert Trainer(work, options(rounds=2)).run()
    want, history = weights(work), read_history(work.run / "stable.jsonl")
    assert [entry["round"] for entry in history] == [1, 2]
    again = Work(work.speech, tmp_path / "again")
    again.root.mkdir()
    (again.root / "audio").symlink_to(work.audio)
    starts = 1
    while not Trainer(again, options(rounds=2, minutes=0)).run():
        starts += 1
    assert starts > 4
    got = weights(again)
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_changed_step_options_start_with_the_next_round_and_another_optimiser_is_refused(work: Work):
    assert not Trainer(work, options(minutes=0)).run()
    other = Options(batch_seconds=6.0, shards=1, schedule=BRIEF, model=TINY)
    trainer = Trainer(work, other)
    assert (trainer.round, trainer.at, trainer.step) == (1, 0, 1)
    with pytest.raises(SystemExit, match="matrices adamw"):
        Trainer(work, Options(matrices="adamw", schedule=BRIEF, model=TINY))


def test_a_signal_ends_the_run_with_a_checkpoint_and_later_signals_are_not_caught(
    work: Work, monkeypatch: pytest.MonkeyPatch
):
    before = signal.getsignal(signal.SIGINT)
    trainer = Trainer(work, options(rounds=5))
    whole = trainer._round

    def interrupted(*given: object) -> tuple[float, float]:
        result = whole(*given)
        signal.raise_signal(signal.SIGINT)  # after the last step looked
        return result

    monkeypatch.setattr(trainer, "_round", interrupted)
    assert not trainer.run()
    assert signal.getsignal(signal.SIGINT) is before
    state = checkpoint.restore(work.run / "stable.pt")
    assert (state["round"], state["step"]) == (1, trainer.step)


def test_each_decay_starts_at_the_stable_phase_and_the_latest_finished_one_is_exported(work: Work):
    with pytest.raises(SystemExit, match="nothing to decay"):
        Trainer(work, options(decay=1))
    assert Trainer(work, options(rounds=1)).run()
    assert chosen(work)[0][0].name == "stable.pt"
    assert not Trainer(work, options(decay=2, minutes=0)).run()
    assert chosen(work)[0][0].name == "stable.pt"  # an unfinished one does not count
    assert Trainer(work, options(decay=2)).run()
    first = weights(work, "decay")
    assert Trainer(work, options(decay=2)).run()  # finished: no work remains
    assert all(torch.equal(first[name], tensor) for name, tensor in weights(work, "decay").items())
    assert chosen(work)[0][1]["round"] == 3
    assert Trainer(work, options(rounds=3)).run()
    assert not Trainer(work, options(decay=2, minutes=0)).run()
    ((path, state),) = chosen(work)
    assert (path.name, state["round"]) == ("decay-1.pt", 3)
    assert Trainer(work, options(decay=2)).run()
    ((path, state),) = chosen(work)
    assert (path.name, state["decay_from"], state["round"]) == ("decay.pt", 3, 5)
    assert [entry["round"] for entry in read_history(work.run / "decay.jsonl")] == [4, 5]
    assert read_history(work.run / "decay.jsonl")[-1]["rate"] == 0
    both = chosen(work, 2)
    assert [path.name for path, _ in both] == ["decay.pt", "decay-1.pt"]
    states = [state for _, state in both]
    mean, first, second = (dict(averaged(s, TINY).named_parameters()) for s in (states, states[:1], states[1:]))
    assert all(torch.allclose(mean[name], (first[name] + second[name]) / 2) for name in mean)


def test_a_decay_ends_with_its_minutes_if_its_rounds_take_longer(work: Work):
    assert Trainer(work, options(rounds=1)).run()
    trainer = Trainer(work, replace(options(decay=50), within=0.02))
    assert trainer.run()
    assert trainer.round < 51
    ((path, state),) = chosen(work)
    assert (path.name, state["round"]) == ("decay.pt", trainer.round)
    assert read_history(work.run / "decay.jsonl")[-1]["rate"] == 0


def test_a_run_can_start_from_the_weights_of_an_export(work: Work, tmp_path: Path):
    assert Trainer(work, options()).run()
    export(work, tmp_path / "bundled", TINY)
    fresh_work = Work(work.speech, tmp_path / "next")
    fresh_work.root.mkdir()
    trainer = Trainer(fresh_work, replace(options(), start=tmp_path / "bundled", peak=0.5))
    assert (trainer.round, trainer.step) == (BRIEF.spliced_from, 0)
    assert {group["peak"] for each in trainer.learner.optimisers for group in each.param_groups} == {0.0005, 0.001}
    for name, want in checkpoint.restore(work.run / "stable.pt")["average"]["weights"].items():
        assert torch.allclose(trainer.learner.average.weights[name], want, atol=2e-3), name


def test_an_export_can_be_the_mean_with_one_before(work: Work, tmp_path: Path):
    before, mean = tmp_path / "before", tmp_path / "mean"
    assert Trainer(work, options()).run()
    export(work, before, TINY)
    first = load_file(before / "model.safetensors")
    doubled = {name: 2 * tensor for name, tensor in first.items()}
    save_file(doubled, before / "model.safetensors", metadata={"format": "pt"})
    export(work, mean, TINY, others=[before])
    for name, tensor in load_file(mean / "model.safetensors").items():
        assert torch.allclose(tensor.float(), 1.5 * first[name].float(), rtol=2e-3, atol=1e-5), name


# ── the network ──


def test_an_export_gives_for_recorded_samples_the_rows_of_the_run_for_scaled_ones(work: Work, tmp_path: Path):
    assert Trainer(work, options()).run()
    folder = tmp_path / "bundled"
    export(work, folder, TINY)
    samples = np.random.default_rng(1).normal(0, 0.05, RATE).astype(np.float32)
    network = Network(averaged([chosen(work)[0][1]], TINY))
    with torch.inference_mode():
        want = network(torch.from_numpy(SCALE * samples)[None], torch.tensor([RATE]))[0][0].log_softmax(-1)
    with Recognizer.load(str(folder), device="cpu", lm="none") as recognizer:
        assert not recognizer.encoder.normalized
        assert recognizer.info.lookahead_ms == 240
        (rows,) = recognizer.encoder.encode([samples])
    assert np.abs(rows - want.numpy()).max() < 0.02  # of half precision
    (work.root / "lm").mkdir()
    (work.root / "lm" / "words.binary").write_bytes(b"n-grams")
    package(work, folder, tmp_path / "package")
    assert (tmp_path / "package" / "language_model" / "words.binary").read_bytes() == b"n-grams"
    assert {path.name for path in folder.iterdir()} | {"language_model"} == {
        path.name for path in (tmp_path / "package").iterdir()
    }


def test_the_fast_forward_equals_that_of_transformers():
    torch.manual_seed(0)
    model = build(TINY).eval()
    lengths = torch.tensor([16_000, 9_999])
    there = torch.arange(16_000) < lengths[:, None]
    samples = torch.randn(2, 16_000) * there
    with torch.inference_mode():
        got = Network(model)(samples, lengths)[0]
        want = model(samples, attention_mask=there.long()).logits
    for row, other, length in zip(got, want, lengths.tolist(), strict=True):
        assert (row - other)[: frames(length)].abs().max() < 1e-4


@pytest.mark.parametrize(("hop", "lookahead", "left"), [(24, 24, 200), (20, 7, 30), (16, 0, 50)])
def test_streamed_training_sees_the_features_of_cached_live_steps(
    packaged: Recognizer, hop: int, lookahead: int, left: int
):
    """Where the grids agree: frames before the start replace those that the first live step does not commit."""
    count = 5 * hop + (hop - lookahead) // 2
    samples = np.random.default_rng(0).normal(0, 0.05, span(count)).astype(np.float32)
    live = Steps(samples, hop, lookahead, left)
    kept = [window.commit - window.committed for window in live.left]
    rows = np.concatenate([r[:n] for r, n in zip(live.run(fresh(packaged.encoder)).rows, kept, strict=True)])
    network = Network(load_base(find_base("bundled"), None).eval())
    with torch.inference_mode():
        x = torch.nn.functional.pad(network.features(torch.from_numpy(samples)[None]), (0, 0, lookahead, 0))
        valid = torch.arange(x.shape[1])[None] >= lookahead
        streamed = network.streamed(x, valid, StepLengths(hop, lookahead, left))[0][0, lookahead:].log_softmax(-1)
    assert len(rows) == count
    assert np.abs(rows - streamed.numpy()).max() < 1e-3


def test_the_packaged_model_recognizes_most_words(packaged: Recognizer):
    """A bound on the word error rate that holds for any retrained model."""
    clips = [clip for clip in load_clips() if clip.text]
    transcripts = [" ".join(final.text for final in packaged.transcribe(clip.path)) for clip in clips]
    assert jiwer.wer([clip.text for clip in clips], transcripts) < 0.6
