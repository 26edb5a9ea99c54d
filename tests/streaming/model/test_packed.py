"""Packed attention against masked attention. A loop over the sequences stands in for the GPU's kernel."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from xlsr_live.streaming.config import SessionConfig
from xlsr_live.streaming.errors import EngineError
from xlsr_live.streaming.frames import frames
from xlsr_live.streaming.model.cache import OWN, PAGE
from xlsr_live.streaming.model.encoder import XlsrEncoder
from xlsr_live.streaming.model.packed import PackedStepEncoder
from xlsr_live.streaming.model.preparing import Limits
from xlsr_live.streaming.model.runners import EagerRunner, GraphRunner
from xlsr_live.streaming.model.varlen import attend_packed, attend_pages, supported

from tests.support import random_xlsr
from tests.support.cached_reference import Utterance, difference
from tests.support.graphs import again
from tests.support.noise import noise

CPU = torch.device("cpu")
CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available here")]
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def encoder(runner: EagerRunner | GraphRunner | None = None, *, packed: bool) -> XlsrEncoder:
    return random_xlsr.encoder("tiny", CPU, torch.float32, max_batch=8, runner=runner, packed=packed)


def together(encoder: XlsrEncoder, utterances: list[Utterance], seed: int) -> None:
    """Run all steps in random batches of utterances that are ready and fit."""
    random = Random(seed)
    while speaking := [utterance for utterance in utterances if utterance.left]:
        random.shuffle(speaking)
        batch: list[Utterance] = []
        for each in speaking[: random.randrange(1, 7)]:
            if not batch or encoder.fits_step(each.next[1], [other.next[1] for other in batch]):
                batch.append(each)
        for each, rows in zip(batch, encoder.encode_steps([each.next for each in batch]), strict=True):
            each.take(rows)


@pytest.mark.parametrize(
    ("hop", "lookahead", "lefts"),
    [
        (24, 24, (200, 190, 170)),  # the defaults, and less left context in equal slots
        (12, 12, (50, 20, 3)),
        (7, 3, (0,)),
        (30, 26, (200,)),  # a step that fills the page
        (40, 30, (200, 151)),  # too many frames for the page: the step is masked
    ],
)
def test_packed_steps_equal_masked_ones(hop: int, lookahead: int, lefts: tuple[int, ...]):
    packed, masked = encoder(packed=True), encoder(packed=False)
    assert isinstance(packed.cached, PackedStepEncoder)
    utterances = [Utterance(noise(9_000 + 14_900 * i, i), hop, lookahead, lefts[i % len(lefts)]) for i in range(8)]
    together(packed, utterances, hop)
    for utterance in utterances:
        own = Utterance(utterance.samples, hop, lookahead, utterance.memory.left_context)
        assert difference(utterance.rows, own.run(masked).rows) < 1e-4
        packed.release(utterance.memory.number)
    assert packed.cached.caches._pools
    for pool in packed.cached.caches._pools.values():
        assert pool.kept_cells % PAGE == 0
        assert pool.kept_cells >= pool.shape.left + OWN


def test_packed_steps_replay_graphs():
    runner = GraphRunner(CPU, capture=again)
    packed, masked = encoder(runner, packed=True), encoder(packed=False)
    limits = Limits(lambda: 0, 0, most_graphs=20, clock=lambda: 0.0)
    packed.prepare(SessionConfig(), runner, utterances=16, limits=limits)
    utterances = [Utterance(noise(9_000 + 14_900 * i, i), 24, 24, (200, 40)[i % 2]) for i in range(6)]
    together(packed, utterances, 0)
    assert (runner.misses, runner.replays > 9) == (0, True)
    for utterance in utterances:
        own = Utterance(utterance.samples, 24, 24, utterance.memory.left_context)
        assert difference(utterance.rows, own.run(masked).rows) < 1e-4


def test_a_packed_step_that_fails_changes_no_state():
    packed, masked = encoder(packed=True), encoder(packed=False)
    good, bad = (Utterance(noise(150_000, seed), 24, 24, 200) for seed in range(2))
    bad.samples[120_000:] = float("nan")  # the ring is full by then
    want = Utterance(good.samples, 24, 24, 200).run(masked).rows
    while bad.left[0].newest < frames(120_000):
        for utterance, rows in zip((good, bad), packed.encode_steps([good.next, bad.next]), strict=True):
            utterance.take(rows)
    assert bad.left[0].committed > 200
    failing = bad.next
    while good.left:
        error, rows = packed.encode_steps([failing, good.next])
        assert isinstance(error, EngineError)
        good.take(rows)
    assert difference(good.rows, want) < 1e-4
    bad.samples[120_000:] = noise(30_000)  # the step itself may run again
    again_ = Utterance(bad.samples, 24, 24, 200).run(masked).rows
    while bad.left:
        bad.take(packed.encode_steps([bad.next])[0])
    assert difference(bad.rows, again_) < 1e-4


# ── full passes ──


def test_packed_passes_equal_padded_ones_whatever_shares_their_batch():
    packed, masked = encoder(packed=True), encoder(packed=False)
    batch = [noise(length, length) for length in (400, 16_000, 719, 720, 40_001, 5_000)]
    want = [masked.encode([samples])[0] for samples in batch]
    assert difference(packed.encode(batch), want) < 1e-4
    assert difference(packed.encode(batch[::-1]), want[::-1]) < 1e-4
    assert difference([packed.encode([samples])[0] for samples in batch], want) < 1e-4


def test_packed_passes_replay_few_graphs_and_one_that_fails_fails_alone():
    runner = GraphRunner(CPU, capture=again)
    packed, masked = encoder(runner, packed=True), encoder(packed=False)
    limits = Limits(lambda: 0, 0, clock=lambda: 0.0)
    packed.prepare(SessionConfig(max_hop_ms=480), runner, utterances=2, limits=limits)
    assert runner.graphs < 20
    batch = [noise(length, length) for length in (30_000, 64_000, 3_000)]
    bad = noise(20_000)
    bad[9_000] = float("nan")
    first, error, *others = packed.encode([batch[0], bad, *batch[1:]])
    assert isinstance(error, EngineError)
    assert difference([first, *others], [masked.encode([samples])[0] for samples in batch]) < 1e-4
    assert (runner.misses, runner.replays) == (0, 1)
    assert packed.fits(64_000, [320_000, 30_000])
    assert not packed.fits(640_000, [640_000, 30_000])


# ── attention ──


@pytest.mark.parametrize("device", DEVICES)
def test_attention_over_pages_equals_attention_with_a_mask(device: str):
    """Cells beyond the valid ones are not finite: nothing may read them."""
    random, kind = Random(0), torch.bfloat16 if device == "cuda" else torch.float32
    if device == "cuda" and not supported(torch.device(device), kind):
        pytest.skip("this torch has no packed attention with pages")
    rows, longest, pages, heads, width = 5, 48, 2, 2, 64
    store = torch.randn(rows * pages, PAGE, 2, heads, width, device=device, dtype=kind)
    table = torch.randperm(rows * pages, device=device).view(rows, pages).int()
    used = torch.tensor([random.randrange(1, pages * PAGE + 1) for _ in range(rows)], dtype=torch.int32, device=device)
    for row in range(rows):
        for page, cell in ((at // PAGE, at % PAGE) for at in range(int(used[row]), pages * PAGE)):
            store[int(table[row, page]), cell] = torch.nan
    starts = torch.arange(0, rows + 1, device=device, dtype=torch.int32) * longest
    queries = torch.randn(rows * longest, heads, width, device=device, dtype=kind)
    keys, values = store.unbind(2)
    found = attend_pages(queries, keys, values, starts, used, table, longest)
    for row in range(rows):
        parts = [queries[row * longest :][:longest]]
        parts += [each[table[row].long()].flatten(0, 1)[: int(used[row])] for each in (keys, values)]
        want = scaled_dot_product_attention(*(part.transpose(0, 1)[None].float() for part in parts))[0].transpose(0, 1)
        error = (found[row * longest :][:longest].float() - want).abs().max()
        assert error < (0.03 if device == "cuda" else 1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_packed_sequences_attend_to_themselves_only(device: str):
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    if device == "cuda" and not supported(torch.device(device), kind):
        pytest.skip("this torch has no packed attention")
    lengths = [1, 30, 7, 90]
    starts = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=device)
    queries, keys, values = torch.randn(3, sum(lengths), 2, 64, device=device, dtype=kind)
    found = attend_packed(queries, keys, values, starts, max(lengths))
    at = 0
    for length in lengths:
        parts = [each[at : at + length].transpose(0, 1)[None].float() for each in (queries, keys, values)]
        want = scaled_dot_product_attention(*parts)[0].transpose(0, 1)
        assert (found[at : at + length].float() - want).abs().max() < (0.03 if device == "cuda" else 1e-5)
        at += length


def test_a_cpu_has_no_packed_attention():
    assert not supported(CPU, torch.bfloat16)
