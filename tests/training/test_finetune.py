"""Fine-tuning: a killed run ends as an unbroken one, and a run that leads nowhere ends with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
from xlsr_live.training.batch import Batch
from xlsr_live.training.curves import read_history
from xlsr_live.training.errors import TrainingError
from xlsr_live.training.finetune import FineTuner
from xlsr_live.training.learner import Learner
from xlsr_live.training.methods import optimiser
from xlsr_live.training.network import Network, StepLengths
from xlsr_live.training.recordings import Listed
from xlsr_live.training.score import ErrorRates, badness
from xlsr_live.training.settings import FineTuning

from tests.support.fine_tuning import TINY, finish, start, weights


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
    assert sum("this was not saved" in sentence for sentence in said) >= 4
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
    live = iter([0.5, 0.4, *[0.6] * 50])
    monkeypatch.setattr(FineTuner, "_rate", lambda self, how: (ErrorRates(next(live) if how else 0.5, 0.3), ["a"]))
    finish(run)
    assert run.tuner.position.best_step == 1
    assert "has not improved for" in run.tuner.position.ended
    assert run.tuner.position.step < 40


def test_where_nearly_all_words_are_wrong_characters_choose_the_weights():
    chance, better, good = ErrorRates(0.95, 0.6), ErrorRates(0.97, 0.4), ErrorRates(0.7, 0.5)
    assert badness(better, better) < badness(chance, chance)
    assert badness(good, good) < badness(better, better)
    assert badness(ErrorRates(0.69, 0.9), good) < badness(good, good)
    assert ErrorRates.of(["ab cd", "e"], ["ab c", ""]) == (2 / 3, 2 / 6)


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
