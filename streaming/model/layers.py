"""The parts of XLS-R that live steps and full passes share: CNN, positions, layers, head.

They work for a `Wav2Vec2ForCTC` with layer norm in its CNN and before its layers (`do_stable_layer_norm`), and equal
its own forward within rounding. The CNN keeps channels last: its layer norms then need no transpose, and its
convolutions are matrix products over overlapping views. One product makes queries, keys and values. The head always
works in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, layer_norm, linear, pad, scaled_dot_product_attention

from ..frames import STRIDE
from .banks import LanguageRows
from .cache import OWN, Pool, SlotShape
from .int8 import Int8Linear, quantize
from .languages import Languages

# From a layer and its input's keys and values, (B, T, 2 * hidden), to those that it attends to, (B, K, 2 * hidden).
Context = Callable[[int, Tensor], Tensor]
# From a layer and its queries, keys and values, (B, T, 3 * hidden), to what it attends to, (B, T, hidden).
Attention = Callable[[int, Tensor], Tensor]


class _Convolution(NamedTuple):
    """A layer of the CNN; `weight` is (out, kernel * in), so that a window of consecutive frames is a row."""

    weight: Tensor
    bias: Tensor | None
    kernel: int
    stride: int
    norm: Any
    activation: Callable[[Tensor], Tensor]


class XlsrLayers:
    """Shares the model's weights. Only the thread that runs the model uses it."""

    def __init__(
        self, model: Any, languages: Languages | None = None, *, head: tuple[Tensor, Tensor | None] | None = None
    ) -> None:
        base = model.wav2vec2
        self.languages = languages  # whose adapters and heads replace the model's
        if languages is not None:
            for layer in base.encoder.layers:
                layer.adapter_layer = None
        self.dtype: torch.dtype = model.dtype
        self.hidden: int = model.config.hidden_size
        self.layers: list[Any] = list(base.encoder.layers)
        width: int = model.config.num_conv_pos_embeddings
        self.reach = width // 2  # frames before a frame that its positional convolution covers
        self._reach_after = width - 1 - self.reach  # frames after it: one fewer for an even kernel
        self.head_width: int = self.hidden // model.config.num_attention_heads
        self._position = base.encoder.pos_conv_embed
        self._position_weights = _exact_weights(self._position.conv)
        self._norm = base.encoder.layer_norm
        self._projection = base.feature_projection
        self._convolutions = [_convolution(layer) for layer in base.feature_extractor.conv_layers]
        self._qkv: list[Any] = [_fused(layer.attention) for layer in self.layers]
        weight, bias = head or (model.lm_head.weight, model.lm_head.bias)
        self._head = (weight.detach().float(), None if bias is None else bias.detach().float())

    @property
    def vocabulary(self) -> int:
        """Outputs of the head; of the model's, where languages have heads of their own."""
        return len(self._head[0])

    def with_head(self, weight: Tensor, bias: Tensor) -> XlsrLayers:
        """The same layers, without the adapters of languages, and another head."""
        other = copy(self)
        other.languages = None
        other._head = weight.float(), bias.float()
        return other

    def quantize(self) -> None:
        """Compute the layers' products in 8-bit integers. transformers' own forward fails afterwards."""
        self._qkv = [Int8Linear(qkv.weight, qkv.bias) for qkv in self._qkv]
        for layer in self.layers:
            for name in ("q_proj", "k_proj", "v_proj"):
                delattr(layer.attention, name)
            adapter, layer.adapter_layer = layer.adapter_layer, None  # too small to gain anything
            quantize(layer)
            layer.adapter_layer = adapter

    def pool(self, shape: SlotShape, *, paged: bool = False) -> Pool:
        """An empty pool for caches of this model's utterances; `paged` as packed attention needs it."""
        return Pool(
            shape,
            own=OWN if paged else 0,
            reach=self.reach,
            layers=len(self.layers),
            hidden=self.hidden,
            device=self._head[0].device,
            dtype=self.dtype,
        )

    def features(self, audio: Tensor) -> Tensor:
        """(B, samples) to projected features, (B, frames, hidden)."""
        x = audio.to(self.dtype).contiguous()[:, :, None]
        for conv in self._convolutions:
            size, length, channels = x.shape
            count = (length - conv.kernel) // conv.stride + 1
            rows = x.as_strided(
                (size, count, conv.kernel * channels),
                (length * channels, conv.stride * channels, 1),
                x.storage_offset(),
            ).reshape(size * count, -1)
            x = linear(rows, conv.weight, conv.bias)
            x = conv.activation(layer_norm(x, (x.shape[1],), conv.norm.weight, conv.norm.bias, conv.norm.eps))
            x = x.view(size, count, -1)
        return self._projection(x)[0]

    def positioned(self, near: Tensor) -> Tensor:
        """Features that start `reach` frames early, (B, reach + T, hidden), with zeros outside the utterance, to the
        layers' input, (B, T, hidden)."""
        weight, bias = self._position_weights
        padded = pad(near.transpose(1, 2), (0, self._reach_after)).to(weight.dtype)
        moved = conv1d(padded, weight, bias, groups=self._position.conv.groups).to(near.dtype)
        return near[:, self.reach :] + self._position.activation(moved).transpose(1, 2)

    def layer(self, index: int, x: Tensor, attention: Attention, rows: LanguageRows | None = None) -> Tensor:
        """One layer over (B, T, hidden)."""
        return self.feed(index, self.attend(index, x, attention), rows)

    def attend(self, index: int, x: Tensor, attention: Attention) -> Tensor:
        layer = self.layers[index]
        return x + layer.attention.out_proj(attention(index, self._qkv[index](layer.layer_norm(x))))

    def masked(self, context: Context, mask: Tensor | None) -> Attention:
        """Attention whose `mask`, (B, 1, 1 or T, K), is added to the scores."""

        def attention(index: int, queries: Tensor) -> Tensor:
            keys, values = self._by_head(context(index, queries[..., self.hidden :])).chunk(2, 1)
            own = self._by_head(queries[..., : self.hidden])
            return scaled_dot_product_attention(own, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)

        return attention

    def feed(self, index: int, x: Tensor, rows: LanguageRows | None = None) -> Tensor:
        layer = self.layers[index]
        x = x + layer.feed_forward(layer.final_layer_norm(x))
        if rows is not None and self.languages is not None:
            return x + self.languages.adapters.adapt(index, x, rows.adapters)
        return x if layer.adapter_layer is None else x + layer.adapter_layer(x)

    def log_probs(self, x: Tensor, rows: LanguageRows | None = None) -> Tensor:
        """(B, T, hidden) to (B, T, vocabulary) in float32."""
        x = self._norm(x).float()
        return linear(x, *self._head).log_softmax(-1) if rows is None else rows.bank.log_probs(x, rows.heads)

    def bias(self, valid: Tensor) -> Tensor:
        """The addend for scores that masks keys out; `valid`, of any shape, bool."""
        return torch.zeros_like(valid, dtype=self.dtype).masked_fill_(~valid, -torch.inf)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, n * hidden) to (B, n * heads, T, hidden / heads)."""
        return x.view(*x.shape[:2], -1, self.head_width).transpose(1, 2)


def flop_per_frame(config: Any, keys: int = 0) -> float:
    """Floating-point operations of one frame, with attention over that many keys; a multiplication and addition count
    as two."""
    hidden, groups = config.hidden_size, config.num_conv_pos_embedding_groups
    layer = 2 * (4 * hidden * hidden + 2 * hidden * config.intermediate_size) + 4 * keys * hidden
    position = 2 * hidden * hidden // groups * config.num_conv_pos_embeddings
    cnn, channels, stride = 0.0, 1, STRIDE
    for width, kernel, step in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        stride //= step
        cnn += 2 * width * channels * kernel * stride
        channels = width
    ends = 2 * hidden * (channels + config.vocab_size)
    return config.num_hidden_layers * layer + position + cnn + ends


def _convolution(layer: Any) -> _Convolution:
    conv = layer.conv
    weight = conv.weight.detach().transpose(1, 2).flatten(1).contiguous()
    return _Convolution(weight, conv.bias, conv.kernel_size[0], conv.stride[0], layer.layer_norm, layer.activation)


def _exact_weights(conv: Any) -> tuple[Tensor, Tensor]:
    """Weights of a grouped convolution, in float32 where the processor computes it wrongly in bfloat16.

    On processors with AMX, oneDNN returns wrong sums for groups of fewer than 16 channels.
    """
    weight, bias = conv.weight.detach(), conv.bias.detach()
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and weight.shape[1] < 16:
        return weight.float(), bias.float()
    return weight, bias


def _fused(attention: Any) -> nn.Linear:
    """One product for queries, keys and values. The model's own weights become views into it, so memory holds them
    once."""
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    width = parts[0].weight.shape[1]
    fused = nn.Linear(width, 3 * width, parts[0].bias is not None, device="meta").requires_grad_(False)
    for name in ("weight", "bias"):
        if getattr(fused, name) is None:
            continue
        joined = torch.cat([getattr(part, name).detach() for part in parts])
        setattr(fused, name, nn.Parameter(joined, requires_grad=False))
        for part, view in zip(parts, joined.chunk(3), strict=True):
            setattr(part, name, nn.Parameter(view, requires_grad=False))
    return fused
