"""Kernels by themselves: first calls of masked attention, gathers of cached keys, and the positional convolution."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, pad, scaled_dot_product_attention
from xlsr_live.streaming.model.gathering import gather_wide

from tests.figures.gpu_times import device_time, timed

Figures = dict[str, Any]


def first_calls(config: Any, device: torch.device, dtype: torch.dtype, shapes: int) -> Iterator[Figures]:
    """Seconds of the first calls with a mask, for batches of 1, 2, ...; in this thread and in a second one.

    cuDNN's attention, if it is on, plans for each shape and thread. Attention with another library has no plans.
    """
    for cudnn in (False, True):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        try:
            for second in (False, True):
                taken: list[float] = []

                def run(taken: list[float] = taken) -> None:
                    taken += [_attention_time(config, device, dtype, batch) for batch in range(1, shapes + 1)]

                if second:
                    thread = threading.Thread(target=run)
                    thread.start()
                    thread.join()
                else:
                    run()
                yield {"cudnn": cudnn, "second_thread": second, "first_s": taken}
        finally:
            torch.backends.cuda.enable_cudnn_sdp(False)


@torch.inference_mode()
def _attention_time(config: Any, device: torch.device, dtype: torch.dtype, batch: int) -> float:
    heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    queries = torch.randn(batch, heads, 48, width, device=device, dtype=dtype)
    keys = torch.randn(batch, heads, 248, width, device=device, dtype=dtype)
    mask = torch.zeros(batch, 1, 1, 248, device=device, dtype=dtype).expand(-1, -1, 48, -1)
    return timed(lambda: scaled_dot_product_attention(queries, keys, keys, attn_mask=mask).sum().item())


@torch.inference_mode()
def gathers(
    hidden: int, device: torch.device, dtype: torch.dtype, batch: int, left: int, repeats: int
) -> Iterator[Figures]:
    """Gigabytes a second, read and written, of one layer's cached keys and values for a batch."""
    ring = torch.randn(2 * batch, left, 2 * hidden, device=device, dtype=dtype)
    slots = torch.randperm(2 * batch, device=device)[:batch]
    whole = torch.empty(batch, left + 48, 2 * hidden, device=device, dtype=dtype)
    cached = whole[:, :left]
    ways: dict[str, Callable[[], object]] = {
        "index_select": lambda: torch.index_select(ring, 0, slots, out=cached),
        "index_select of 16 bytes": lambda: gather_wide(ring, slots, cached),
        "ring[slots]": lambda: cached.copy_(ring[slots]),
        "a copy of as much": lambda: cached.copy_(ring[:batch]),
    }
    moved = 2 * batch * left * 2 * hidden * ring.itemsize
    for name, way in ways.items():
        whole.fill_(torch.nan)
        way()
        right = bool(torch.equal(cached, ring[slots])) or name.startswith("a copy")
        yield {"way": name, "gb_per_s": moved / device_time(way, device, repeats) / 1e9, "right": right}


@torch.inference_mode()
def convolutions(model: Any, batch: int, frames: int, repeats: int) -> Iterator[Figures]:
    """The grouped positional convolution of a step: as it is, with channels last, and as products of windows.

    Errors are relative to a convolution in float32.
    """
    conv = model.wav2vec2.encoder.pos_conv_embed.conv
    weight, bias, groups, width = conv.weight, conv.bias, conv.groups, conv.kernel_size[0]
    hidden = model.config.hidden_size
    near = torch.randn(batch, frames + width // 2, hidden, device=model.device, dtype=model.dtype)
    after = width - 1 - width // 2
    products = weight.view(groups, hidden // groups, -1).transpose(1, 2).contiguous()  # (g, in * k, out)
    image = weight[:, :, None].contiguous(memory_format=torch.channels_last)

    def now() -> Tensor:
        return conv1d(pad(near.transpose(1, 2), (0, after)), weight, bias, groups=groups).transpose(1, 2)

    def channels_last() -> Tensor:
        rows = pad(near, (0, 0, 0, after))[:, None].permute(0, 3, 1, 2)  # (B, hidden, 1, T), channels last
        return conv2d(rows, image, bias, groups=groups)[:, :, 0].transpose(1, 2)

    def windows() -> Tensor:
        rows = pad(near, (0, 0, 0, after)).view(batch, -1, groups, hidden // groups)
        seen = rows.unfold(1, width, 1)  # (B, T, g, in, k)
        seen = seen.permute(2, 0, 1, 3, 4).reshape(groups, batch * seen.shape[1], -1)
        found = torch.baddbmm(bias.view(groups, 1, -1), seen, products)
        return found.view(groups, batch, -1, hidden // groups).permute(1, 2, 0, 3).flatten(2)

    wide = pad(near.transpose(1, 2), (0, after)).float()
    wanted = conv1d(wide, weight.float(), bias.float(), groups=groups).transpose(1, 2)
    for way in (now, channels_last, windows):
        error = float((way().float() - wanted).norm() / wanted.norm())
        yield {"way": way.__name__, "s": device_time(way, model.device, repeats), "error": error}
