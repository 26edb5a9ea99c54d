"""The parts of XLS-R as live steps and whole passes share them: CNN, positions, layers, head.

For a `Wav2Vec2ForCTC` with layer norm in its CNN and before its layers (`do_stable_layer_norm`). The numbers are those
of its forward within rounding; the arrangement is another one. The CNN keeps channels last, so that its layer norms
need no transposing and its convolutions are matrix products over overlapping views. Queries, keys and values come from
one product. The head works in float32 whatever the rest is in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, layer_norm, linear, pad, scaled_dot_product_attention

from ..frames import STRIDE
from .cache import Pool, SlotShape
from .int8 import Int8Linear, quantize

# Told a layer and the keys and values of its input, (B, T, 2 * hidden), gives those to attend to, (B, K, 2 * hidden).
Context = Callable[[int, Tensor], Tensor]


class _Convolution(NamedTuple):
    """A layer of the CNN; `weight` is (out, kernel * in), so that a window of consecutive frames is a row."""

    weight: Tensor
    bias: Tensor | None
    kernel: int
    stride: int
    norm: Any
    activation: Callable[[Tensor], Tensor]


class XlsrLayers:
    """Shares the model's weights. Belongs to the thread that runs the model."""

    def __init__(self, model: Any) -> None:
        base = model.wav2vec2
        self.vocabulary: int = model.config.vocab_size
        self.dtype: torch.dtype = model.dtype
        self.hidden: int = model.config.hidden_size
        self.layers: list[Any] = list(base.encoder.layers)
        width: int = model.config.num_conv_pos_embeddings
        self.reach = width // 2  # frames before a frame that its position is made of
        self._beyond = width - 1 - self.reach  # and after it: an even kernel reaches one less
        self._head_width: int = self.hidden // model.config.num_attention_heads
        self._position = base.encoder.pos_conv_embed
        self._position_weights = _exact_weights(self._position.conv)
        self._norm = base.encoder.layer_norm
        self._projection = base.feature_projection
        self._convolutions = [_convolution(layer) for layer in base.feature_extractor.conv_layers]
        self._qkv: list[Any] = [_fused(layer.attention) for layer in self.layers]
        head = model.lm_head
        self._head = (head.weight.detach().float(), None if head.bias is None else head.bias.detach().float())

    def quantize(self) -> None:
        """Products of the layers in 8-bit integers. transformers' own forward does not work afterwards."""
        self._qkv = [Int8Linear(qkv.weight, qkv.bias) for qkv in self._qkv]
        for layer in self.layers:
            for name in ("q_proj", "k_proj", "v_proj"):
                delattr(layer.attention, name)
            quantize(layer)

    def pool(self, geometry: SlotShape) -> Pool:
        """A pool for what is remembered of this model's utterances."""
        return Pool(
            geometry,
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
        """Features from `reach` frames before the first that is wanted, (B, reach + T, hidden), with zeros outside of
        the utterance, to the layers' input, (B, T, hidden)."""
        weight, bias = self._position_weights
        padded = pad(near.transpose(1, 2), (0, self._beyond)).to(weight.dtype)
        moved = conv1d(padded, weight, bias, groups=self._position.conv.groups).to(near.dtype)
        return near[:, self.reach :] + self._position.activation(moved).transpose(1, 2)

    def layer(self, index: int, x: Tensor, context: Context, mask: Tensor | None) -> Tensor:
        """One layer over (B, T, hidden); `mask`, (B, 1, 1 or T, K), is added to the scores."""
        return self.feed(index, self.attend(index, x, context, mask))

    def attend(self, index: int, x: Tensor, context: Context, mask: Tensor | None) -> Tensor:
        layer = self.layers[index]
        queries = self._qkv[index](layer.layer_norm(x))
        keys, values = self._by_head(context(index, queries[..., self.hidden :])).chunk(2, 1)
        heard = scaled_dot_product_attention(self._by_head(queries[..., : self.hidden]), keys, values, attn_mask=mask)
        return x + layer.attention.out_proj(heard.transpose(1, 2).flatten(2))

    def feed(self, index: int, x: Tensor) -> Tensor:
        layer = self.layers[index]
        x = x + layer.feed_forward(layer.final_layer_norm(x))
        return x if layer.adapter_layer is None else x + layer.adapter_layer(x)

    def log_probs(self, x: Tensor) -> Tensor:
        """(B, T, hidden) to (B, T, vocabulary) in float32."""
        return linear(self._norm(x).float(), *self._head).log_softmax(-1)

    def bias(self, heard: Tensor) -> Tensor:
        """What to add to scores so that only keys that count are heard; `heard`, of any shape, bool."""
        return torch.zeros_like(heard, dtype=self.dtype).masked_fill_(~heard, -torch.inf)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, n * hidden) to (B, n * heads, T, hidden / heads)."""
        return x.view(*x.shape[:2], -1, self._head_width).transpose(1, 2)


def flop_per_frame(config: Any, keys: int = 0) -> float:
    """Floating-point operations that a frame takes, with attention over so many keys; two for a multiplication and
    addition."""
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
    """Queries, keys and values in one product; the model's own weights become views of its, so that nothing is there
    twice."""
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
