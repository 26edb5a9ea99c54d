"""The forward pass used in training: the weights of a plain `Wav2Vec2ForCTC`, computed faster and with streaming masks.

The weights keep the names of transformers, so the saved model loads with `Wav2Vec2ForCTC.from_pretrained`. Two things
differ from the library's forward. Convolutions run as matrix products over (batch, time, channels), which on a CPU is
about twice as fast with layer norms between them. And the encoder can run as the live recognizer does (`streamed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import checkpoint

from ..streaming.frames import FIELD, STRIDE, ms


@dataclass(frozen=True)
class StepLengths:
    """Lengths of live steps, in frames of 20 ms."""

    hop: int  # frames committed per step
    lookahead: int  # frames to the right of them that a step also sees
    left: int  # committed frames to the left that a step attends to

    @classmethod
    def live(cls, lookahead_ms: int) -> StepLengths:
        """Of a default session."""
        return cls(hop=24, lookahead=ms(lookahead_ms) // STRIDE, left=200)


class Heard(NamedTuple):
    """What the network makes of a batch."""

    last: Tensor  # (batch, frames, vocabulary) logits after the last layer
    middle: Tensor  # (batch, frames, vocabulary) logits after the middle one
    hidden: Tensor | None  # (batch, frames, hidden) after layer `Network.shown`


_checkpoint: Any = cast(Any, checkpoint).checkpoint

Count = TypeVar("Count", int, Tensor)


def frames(samples: Count) -> Count:
    """Frames of 20 ms that `samples` samples give, at least 400 of them: (n - 400) // 320 + 1."""
    return (samples - FIELD) // STRIDE + 1


class Network(nn.Module):
    """`Wav2Vec2ForCTC` with layer norm in its CNN and before its layers: features -> (masked) encoder -> logits.

    `shown` is the layer, from 1, whose output is part of the result too. `recompute` keeps only the input of each layer
    for the backward pass and computes the rest again (gradient checkpointing): a tenth of the memory for a third more
    time. Dropout of attention weights and of whole layers is left out.
    """

    def __init__(self, model: Any, *, recompute: bool = False) -> None:
        super().__init__()
        self.model = model
        self.recompute = recompute
        self.shown: int | None = None

    @torch.no_grad()
    def centre(self) -> None:
        """Make the kernels on the samples sum to zero: a constant offset of the input then has no effect.

        The layer norm that follows removes the level, so together they replace `do_normalize`.
        """
        weight = self.model.wav2vec2.feature_extractor.conv_layers[0].conv.weight
        weight -= weight.mean(-1, keepdim=True)

    def features(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> (batch, frames, hidden): the CNN and the projection, local in time."""
        x = samples.unsqueeze(-1)
        for layer in self.model.wav2vec2.feature_extractor.conv_layers:
            x = layer.activation(layer.layer_norm(_convolve(x, layer.conv)))
        return self.model.wav2vec2.feature_projection(x)[0]

    def forward(
        self, samples: Tensor, lengths: Tensor, stream: StepLengths | None = None, masks: Tensor | None = None
    ) -> Heard:
        """CNN, hidden frames, transformer and head.

        samples (batch, samples) float, zero after `lengths` (batch,) samples; `masks` (batch, frames) bool, True where
        SpecAugment hides a frame; `stream` None for full attention.
        """
        x = self.features(samples)
        if masks is not None:
            x = torch.where(masks.unsqueeze(-1), self._hidden_frame(x), x)
        valid = torch.arange(x.shape[1], device=x.device) < frames(lengths).unsqueeze(1)
        x = x * valid.unsqueeze(-1)
        return self.offline(x, valid) if stream is None else self.streamed(x, valid, stream)

    def _hidden_frame(self, x: Tensor) -> Tensor:
        """The vector in place of a hidden frame: the one of the pre-training, or zeros in a model without one."""
        vector = getattr(self.model.wav2vec2, "masked_spec_embed", None)
        return x.new_zeros(1) if vector is None else vector.to(x.dtype)

    def offline(self, x: Tensor, valid: Tensor) -> Heard:
        """Full attention over (batch, frames, hidden)."""
        x = x + self.model.wav2vec2.encoder.pos_conv_embed(x)
        return self._layers(x, valid[:, None, None, :])

    def streamed(self, x: Tensor, valid: Tensor, stream: StepLengths) -> Heard:
        """The computation of the cached live mode, for all steps at once.

        Step c encodes the block of `hop` frames from c * hop on and `lookahead` more. Blocks lie side by side in one
        sequence, and a frame attends to its own block and to the committed frames of earlier blocks that `left` keeps;
        so a lookahead frame appears twice: in the step that only looks ahead to it, and in the one that commits it. The
        convolutional positions see nothing beyond the block either.
        """
        encoder = self.model.wav2vec2.encoder
        batch, total, hidden = x.shape
        width, reach = stream.hop + stream.lookahead, encoder.pos_conv_embed.conv.kernel_size[0] // 2
        starts = torch.arange(0, total, stream.hop, device=x.device)
        steps = len(starts)
        # The convolution sees `reach` frames before the block; its outputs there are not kept.
        padded = F.pad(x, (0, 0, reach, int(starts[-1]) + width - total))
        index = starts[:, None] + torch.arange(reach + width, device=x.device)
        windows = padded[:, index.flatten()].view(batch * steps, reach + width, hidden)
        x = (windows + encoder.pos_conv_embed(windows))[:, reach:].reshape(batch, steps * width, hidden)
        frame = (starts[:, None] + torch.arange(width, device=x.device)).flatten()
        step = torch.arange(steps, device=x.device).repeat_interleave(width)
        committed = torch.arange(width, device=x.device).repeat(steps) < stream.hop
        near = frame[None, :] >= starts[step][:, None] - stream.left
        earlier = committed[None, :] & (step[None, :] < step[:, None]) & near
        seen = earlier | (step[None, :] == step[:, None])
        there = F.pad(valid, (0, int(starts[-1]) + width - total))[:, frame]
        # A row without any key would give NaN: a padding frame may always see itself.
        mask = (seen & there[:, None, :]) | torch.eye(len(frame), dtype=torch.bool, device=x.device)
        heard = self._layers(x, mask[:, None])

        def kept(y: Tensor) -> Tensor:
            return y[:, committed][:, :total]

        return Heard(kept(heard.last), kept(heard.middle), None if heard.hidden is None else kept(heard.hidden))

    def _layers(self, x: Tensor, mask: Tensor) -> Heard:
        """The transformer. mask (batch, 1, queries, keys) bool, True where a query sees a key."""
        encoder = self.model.wav2vec2.encoder
        x = encoder.dropout(x)
        middle, hidden = x, None
        for number, layer in enumerate(encoder.layers, 1):
            if self.recompute and torch.is_grad_enabled():
                x = _checkpoint(self._layer, layer, x, mask, use_reentrant=False)
            else:
                x = self._layer(layer, x, mask)
            if number == len(encoder.layers) // 2:
                middle = x
            if number == self.shown:
                hidden = x
        return Heard(self._logits(x), self._logits(middle), hidden)

    def _layer(self, layer: Any, x: Tensor, mask: Tensor) -> Tensor:
        heads: int = self.model.config.num_attention_heads
        a, y = layer.attention, layer.layer_norm(x)
        q, k, v = (p(y).unflatten(-1, (heads, -1)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
        y = _attend(q, k, v, mask).transpose(1, 2).flatten(2)
        x = x + layer.dropout(a.out_proj(y))
        x = x + layer.feed_forward(layer.final_layer_norm(x))
        return x if layer.adapter_layer is None else x + layer.adapter_layer(x)

    def _logits(self, x: Tensor) -> Tensor:
        return self.model.lm_head(self.model.wav2vec2.encoder.layer_norm(x))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """(batch, heads, frames, width) each. Written out on a CPU: there the fused kernel is slower in bfloat16."""
    if q.device.type == "cuda":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    bias = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
    return torch.softmax(scores + bias, -1) @ v


def _convolve(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """`conv` over (batch, time, channels), as matrix products on views where kernel and stride allow it."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    weight = conv.weight.permute(0, 2, 1)  # (out, kernel, in)
    count = (x.shape[1] - kernel) // stride + 1
    # Blocks of `stride` time steps, seen as one wide channel: the kernel covers one block and a part of the next ones.
    need = count + (kernel - 1) // stride
    x = F.pad(x, (0, 0, 0, max(0, need * stride - x.shape[1])))[:, : need * stride]
    blocks = x.reshape(x.shape[0], need, stride * x.shape[2])
    out: Tensor | None = None
    for first in range(0, kernel, stride):
        taps = weight[:, first : first + stride].flatten(1)
        part = blocks[:, first // stride : first // stride + count, : taps.shape[1]]
        out = F.linear(part, taps, conv.bias) if out is None else F.linear(part, taps) + out
    assert out is not None  # a kernel has at least one tap
    return out
