"""The network of XLS-R without transformers, whose import takes longer than that of torch.

Modules and weights have the names of transformers' `Wav2Vec2ForCTC` (`do_stable_layer_norm`, layer norm in the CNN),
which this equals. Dropout is left out: it only trains.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_PARTS: Final = ("parametrizations.weight.original0", "parametrizations.weight.original1")


class NetworkConfig(msgspec.Struct, frozen=True):
    """The part of a `config.json` that this network needs; defaults as in transformers' `Wav2Vec2Config`."""

    vocab_size: int = 32
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    add_adapter: bool = False
    adapter_attn_dim: int | None = None
    pad_token_id: int | None = 0
    blank_token_id: int | None = None
    live_lookahead_ms: int | None = None  # of `xlsr_live`: the lookahead that the checkpoint was trained for


class Convolution(nn.Module):
    """A layer of the CNN: (B, in, samples or frames) to (B, out, frames)."""

    def __init__(self, config: NetworkConfig, index: int) -> None:
        super().__init__()
        before, width = config.conv_dim[index - 1] if index else 1, config.conv_dim[index]
        kernel, stride = config.conv_kernel[index], config.conv_stride[index]
        self.conv = nn.Conv1d(before, width, kernel, stride, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(width)
        self.activation = nn.functional.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.layer_norm(self.conv(x).transpose(1, 2)).transpose(1, 2))


class FeatureExtractor(nn.Module):
    """The CNN: (B, samples) to (B, width, frames)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(Convolution(config, index) for index in range(len(config.conv_dim)))

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(nn.Module):
    """(B, frames, width) to (B, frames, hidden), and the normalized features."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer_norm(x)
        return self.projection(x), x


class Positions(nn.Module):
    """The positional convolution, with its weight norm computed (`bake`)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        self.conv = nn.Conv1d(config.hidden_size, config.hidden_size, kernel, padding=kernel // 2, groups=groups)
        self.activation = nn.functional.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention over (B, frames, hidden)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            each(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers over (..., hidden)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_dense(nn.functional.gelu(self.intermediate_dense(x)))


class Layer(nn.Module):
    """A layer with its norms before attention and before the linear layers."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.adapter_layer = None  # of a language

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layer_norm(x))
        return x + self.feed_forward(self.final_layer_norm(x))


class Layers(nn.Module):
    """Positions, layers and the last norm: (B, frames, hidden) to the same."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.pos_conv_embed = Positions(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos_conv_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)


class Body(nn.Module):
    """Everything below the head."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.feature_extractor = FeatureExtractor(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Layers(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.feature_projection(self.feature_extractor(x).transpose(1, 2))[0])


class PlainNetwork(nn.Module):
    """(B, samples) to logits, (B, frames, vocabulary)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config: Any = config
        self.wav2vec2 = Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.wav2vec2(x))

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def bake(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the positional convolution's weight norm computed: both names of its parts become one weight."""
    conv = "wav2vec2.encoder.pos_conv_embed.conv."
    for first, second in (("weight_g", "weight_v"), _PARTS):
        parts = conv + first, conv + second
        if all(part in weights for part in parts):
            magnitude, direction = (weights[part].float() for part in parts)
            norm: Tensor = cast(Any, torch)._weight_norm(direction, magnitude, 2)
            return {name: weight for name, weight in weights.items() if name not in parts} | {conv + "weight": norm}
    return weights
