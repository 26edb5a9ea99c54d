"""Live steps with packed attention: cached keys stay where they are, and there is no mask.

A slot is whole pages of keys, and a step writes its own keys after the valid ones of its ring, so that they are the
first cells of the slot's pages. `table` names these pages. Steps with more frames than a slot has cells for run masked,
over the same cache. It has run on a CPU only, and is off.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from ..requests import Window
from .answers import Float32, Int32
from .banks import HeadBank
from .batching import packed_columns, packed_words
from .cache import PAGE, Pool, Slot
from .layers import Attention
from .shapes import Shape
from .step import StepEncoder
from .varlen import attend_pages


class PackedStepEncoder(StepEncoder):
    """Its caches' pools must be `paged`."""

    def _family(self, pool: Pool, bank: HeadBank | None) -> Hashable:
        return "packed", super()._family(pool, bank)

    def _plan(
        self, shape: Shape, samples: Sequence[Float32], windows: Sequence[Window], slots: Sequence[Slot]
    ) -> list[Int32]:
        words = super()._plan(shape, samples, windows, slots)
        return words + packed_words(shape, windows, slots) if _packs(slots[0].pool, shape) else words

    def _columns(self, pool: Pool, shape: Shape) -> tuple[int, ...]:
        columns = super()._columns(pool, shape)
        return columns + packed_columns(shape) if _packs(pool, shape) else columns

    def _attention(
        self, pool: Pool, shape: Shape, fresh: list[Tensor], slots: Tensor, valid_keys: Tensor, more: Sequence[Tensor]
    ) -> Attention:
        if not _packs(pool, shape):
            return super()._attention(pool, shape, fresh, slots, valid_keys, more)
        network, device = self._network, slots.device
        written, used, hidden = more[0], more[1].int(), network.hidden
        heads = hidden // network.head_width
        pages = pool.kept_cells // PAGE
        starts = torch.arange(0, (shape.batch + 1) * shape.queries, shape.queries, dtype=torch.int32, device=device)
        table = (slots[:, None] * pages + torch.arange(pages, device=device)).int()

        def attention(index: int, queries: Tensor) -> Tensor:
            own, cells = queries[..., hidden:], pool.keys_values[index]
            fresh.append(own[:, : shape.kept].flatten(0, 1))
            cells.flatten(0, 1).index_copy_(0, written, own.flatten(0, 1))
            keys, values = cells.view(-1, PAGE, 2, heads, network.head_width).unbind(2)
            asked = queries[..., :hidden].reshape(-1, heads, network.head_width)
            return attend_pages(asked, keys, values, starts, used, table, shape.queries).view(
                *queries.shape[:2], hidden
            )

        return attention


def _packs(pool: Pool, shape: Shape) -> bool:
    """Whether a slot has cells for the keys of the steps beside its ring."""
    return pool.shape.left + shape.queries <= pool.kept_cells
