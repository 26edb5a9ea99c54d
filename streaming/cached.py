"""Live steps that encode every frame about twice instead of ten times: cached keys and values, in batches.

XLS-R's positions enter once, by a convolution before the first layer; attention itself has no relative positions. So
the keys and values of past frames can be kept and used again, with no retraining (Transformer-XL, arXiv 1901.02860,
without its relative positions; for streaming with a lookahead: arXiv 2010.11395, 2407.04439). A CNN with layer norm is
local, so its frames are made once, from the new samples.

One step of an utterance: features of the frames [heard, newest) from new samples alone; the positional convolution over
them and the frames kept from before, with zeros beyond the newest as at the end of any input; then through the layers
go the frames [committed, newest) as queries, over the kept keys and values of up to `left_context` frames before them
and their own. Those of [committed, commit) are kept for the steps to come.

All utterances of a batch go through the same tensors, whatever their number: shapes depend on the geometry and on the
longest step alone, what is not there is masked, and all that differs is in index tensors made beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from .errors import EngineError
from .frames import span
from .pools import Geometry, Place, Places, Pool, rounded
from .windows import Memory, Reuse, Window

Float32 = NDArray[np.float32]

_MOST_PADDING = 0.25  # of a batch's frames


class _Plan(NamedTuple):
    """Who reads and writes what, on the device. B utterances, Q queries, N new frames, L left, R recent."""

    audio: Tensor  # (B, samples of N frames)
    slots: Tensor  # (B,)
    around: Tensor  # (B * (reach + Q),): rows of [kept | new | zero] that lie around the committed edge
    recent: Tensor  # (B * R,): rows of those that the next step needs
    kept: Tensor  # (B * Q,): ring cells for the committed frames; 0 for the others
    heard: Tensor  # (B, 1, Q, L + Q) bool: keys that count


class CachedSteps:
    """Steps of a `Wav2Vec2ForCTC` with layer norm in its CNN and before its layers; `most_bytes` for all its state.

    Belongs to the thread that runs the model.
    """

    def __init__(self, model: Any, *, most_bytes: int) -> None:
        self._base = model.wav2vec2
        self._head = model.lm_head
        self._head_width: int = model.config.hidden_size // model.config.num_attention_heads
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        width: int = model.config.num_conv_pos_embeddings
        self._reach = width // 2  # frames before a frame that its position is made of
        self._beyond = width - 1 - self._reach  # and after it: an even kernel reaches one less
        self.places = Places(
            layers=model.config.num_hidden_layers,
            hidden=model.config.hidden_size,
            device=self._device,
            dtype=self._dtype,
            most_bytes=most_bytes,
        )

    def fits(self, step: Reuse, others: Sequence[Reuse]) -> bool:
        """Whether a step may share a batch with others of equal geometry: little of it may be padding."""
        if any(self._geometry(step.memory) != self._geometry(other.memory) for other in others):
            return False
        windows = [step.window, *(other.window for other in others)]
        return _even([w.newest - w.committed for w in windows]) and _even([w.newest - w.heard for w in windows])

    @torch.inference_mode()
    def advance(self, batch: Sequence[tuple[Float32, Reuse]]) -> list[Float32]:
        """Take the next steps of different utterances, of equal geometry.

        Each is the window's new samples, (n,), normalised, and what they go on from. Returns log-probabilities of the
        frames `[committed, newest)`, (frames, vocabulary) float32, for each. Raises `EngineError` if the state of an
        utterance is not that of its previous step, or if there is no room for a new one. Unless it returns, the state
        of every utterance is as it was, or gone.
        """
        windows = [reuse.window for _, reuse in batch]
        places = [self._place(reuse) for _, reuse in batch]
        pool = places[0].pool
        plan = self._plan([samples for samples, _ in batch], windows, places)
        near = self._around(plan, pool)
        rows, keys_values = self._through(near, plan, pool)
        answers = cast(Float32, rows.cpu().numpy())
        lengths = [window.newest - window.committed for window in windows]
        if not all(np.isfinite(answer[:length]).all() for answer, length in zip(answers, lengths, strict=True)):
            raise EngineError("the model's output is not finite")
        try:
            self._remember(near, keys_values, plan, pool)
        except BaseException:
            for _, reuse in batch:  # half written
                self.release(reuse.memory.number)
            raise
        for place, window in zip(places, windows, strict=True):
            place.committed, place.heard = window.commit, window.newest
        return [answer[:length] for answer, length in zip(answers, lengths, strict=True)]

    def release(self, number: int) -> None:
        """Forget the utterance whose memory has that number; one that is not known is no error."""
        self.places.release(number)

    # ── before the step ──

    def _geometry(self, memory: Memory) -> Geometry:
        return Geometry(rounded(memory.left_context), self._reach + rounded(memory.lookahead))

    def _place(self, reuse: Reuse) -> Place:
        memory, window = reuse
        place = self.places.get(memory.number)
        if place is None:
            if window.heard:
                raise EngineError("what the encoder remembered of this utterance is gone")
            return self.places.take(memory.number, self._geometry(memory))
        if (place.committed, place.heard) != (window.committed, window.heard):
            raise EngineError("the steps of this utterance are not in order")
        return place

    def _plan(self, audio: Sequence[Float32], windows: Sequence[Window], places: Sequence[Place]) -> _Plan:
        """Everything about who is where, as one array of 32-bit words: a single copy to the device."""
        pool = places[0].pool
        if any(place.pool is not pool for place in places):
            raise ValueError("steps of different geometry in one batch")
        left, recent = pool.geometry
        size = len(places)
        slots = np.array([place.slot for place in places])[:, None]
        columns = np.array([(w.first, w.committed, w.commit, w.newest, w.heard) for w in windows]).T
        first, committed, commit, newest, heard = columns[:, :, None]
        queries, new = int((newest - committed).max()), int((newest - heard).max())
        row = np.arange(size)[:, None]

        samples = np.zeros((size, span(new)), np.float32)
        for block, own, window in zip(samples, audio, windows, strict=True):
            if len(own) != span(window.newest - window.heard):
                raise ValueError(f"{len(own)} samples for {window.newest - window.heard} new frames")
            block[: len(own)] = own

        at = np.arange(self._reach + queries)
        frame = committed - self._reach + at
        around = np.where(frame < heard, at, recent + frame - heard)
        around = np.where((frame < 0) | (frame >= newest), recent + new, around) + row * (recent + new + 1)

        ahead = np.minimum(commit - committed + np.arange(recent), len(at) - 1) + row * len(at)

        frame = committed + np.arange(queries)
        keep = (frame < commit) & (frame >= commit - left)
        cells = np.where(keep, slots * left + frame % max(left, 1), 0)

        last = committed - 1
        inside = last - (last - np.arange(left)) % max(left, 1) >= first  # the frame that a cell holds
        counts = np.concatenate((inside, frame < newest), axis=1)

        words = [samples.view(np.int32), *(x.astype(np.int32) for x in (slots, around, ahead, cells, counts))]
        packed = torch.from_numpy(np.concatenate([x.ravel() for x in words])).to(self._device)
        parts = cast("tuple[Tensor, ...]", packed.split([x.size for x in words]))
        indices = (part.long() for part in parts[1:5])
        mask = parts[5].view(size, 1, 1, -1).bool().expand(-1, -1, queries, -1)
        return _Plan(parts[0].view(torch.float32).view(size, -1), *indices, heard=mask)

    # ── the step ──

    def _features(self, audio: Tensor) -> Tensor:
        """(B, samples) to projected features, (B, N, hidden)."""
        frames = self._base.feature_extractor(audio.to(self._dtype)).transpose(1, 2)
        return self._base.feature_projection(frames)[0]

    def _around(self, plan: _Plan, pool: Pool) -> Tensor:
        """Projected features from `reach` frames before the committed edge on, (B, reach + Q, hidden); zero outside of
        the utterance."""
        kept = pool.projected.index_select(0, plan.slots)
        size, _, hidden = kept.shape
        parts = [kept, kept.new_zeros(size, 1, hidden)]
        if plan.audio.shape[1]:
            parts.insert(1, self._features(plan.audio))
        return torch.cat(parts, 1).flatten(0, 1).index_select(0, plan.around).view(size, -1, hidden)

    def _through(self, near: Tensor, plan: _Plan, pool: Pool) -> tuple[Tensor, list[Tensor]]:
        """Log-probabilities (B, Q, vocabulary) in float32, and for each layer the queries' keys and values."""
        encoder = self._base.encoder
        position = encoder.pos_conv_embed
        padded = pad(near.transpose(1, 2), (0, self._beyond))
        conv = position.conv
        moved = torch.nn.functional.conv1d(padded, conv.weight, conv.bias, groups=conv.groups)
        x = near[:, self._reach :] + position.activation(moved).transpose(1, 2)
        keys_values: list[Tensor] = []
        for layer, kept in zip(encoder.layers, pool.keys_values, strict=True):
            attention, y = layer.attention, layer.layer_norm(x)
            own = torch.cat((attention.k_proj(y), attention.v_proj(y)), 2)
            keys_values.append(own)
            whole = torch.cat((kept.index_select(0, plan.slots), own), 1)
            keys, values = self._by_head(whole).chunk(2, 1)
            query = self._by_head(attention.q_proj(y))
            heard = scaled_dot_product_attention(query, keys, values, attn_mask=plan.heard)
            x = x + attention.out_proj(heard.transpose(1, 2).flatten(2))
            x = x + layer.feed_forward(layer.final_layer_norm(x))
            if layer.adapter_layer is not None:
                x = x + layer.adapter_layer(x)
        return self._head(encoder.layer_norm(x)).float().log_softmax(-1), keys_values

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, n * hidden) to (B, n * heads, T, hidden / heads)."""
        return x.view(*x.shape[:2], -1, self._head_width).transpose(1, 2)

    # ── after the step ──

    def _remember(self, near: Tensor, keys_values: Sequence[Tensor], plan: _Plan, pool: Pool) -> None:
        recent = near.flatten(0, 1).index_select(0, plan.recent).view(len(near), -1, near.shape[2])
        pool.projected.index_copy_(0, plan.slots, recent)
        if pool.geometry.left:
            for ring, own in zip(pool.keys_values, keys_values, strict=True):
                ring.view(-1, ring.shape[2]).index_copy_(0, plan.kept, own.flatten(0, 1))


def _even(lengths: Sequence[int]) -> bool:
    return max(lengths) * len(lengths) - sum(lengths) <= _MOST_PADDING * sum(lengths)
