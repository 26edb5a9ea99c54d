"""The languages of a multilingual checkpoint: those in memory, and what decoding needs in each.

Adapters load when they are first needed, into a fixed number of slots. The language that was not used for longest makes
room for another, unless a batch that runs uses it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..ctc.assets import Assets
from ..ctc.vocabulary import Vocabulary
from ..errors import EngineError, ModelError
from .adapters import Adapter, AdapterShape
from .banks import NARROW, AdapterBank, HeadBank, head_width

_WIDE_SLOTS = 8  # heads of thousands of tokens take megabytes


@dataclass(slots=True)
class Place:
    """Where a language lies in the banks."""

    adapter: int  # slot
    head: int  # slot
    bank: HeadBank
    tokens: int  # of its vocabulary
    leases: int = 0


class Languages:
    """Any thread may use it. `known` are the languages of the checkpoint; `default` is that of rows that name none.

    `read` reads an adapter; `vocabulary_of`, given a language and the outputs of its head, its vocabulary; `assets_of`
    what else decoding uses. They may raise `ModelError`.
    """

    def __init__(
        self,
        name: str,
        known: Sequence[str],
        *,
        default: str | None,
        shape: AdapterShape,
        slots: int,
        device: torch.device,
        dtype: torch.dtype,
        read: Callable[[str], Adapter],
        vocabulary_of: Callable[[str, int], Vocabulary],
        assets_of: Callable[[str, Vocabulary], Assets],
    ) -> None:
        self.name = name  # of the checkpoint
        self.known = tuple(known)
        self.default = default
        self.adapters = AdapterBank(shape, slots, device=device, dtype=dtype)
        self.loads = 0  # adapters that were read
        self._hidden, self._device = shape.hidden, device
        self._heads: dict[int, HeadBank] = {}  # by width
        self._places: OrderedDict[str, Place] = OrderedDict()  # the one used last comes last
        self._read, self._vocabulary_of, self._assets_of = read, vocabulary_of, assets_of
        self._tokens: dict[str, int] = {}  # of languages that were read once
        self._vocabularies: dict[str, Vocabulary] = {}
        self._assets: dict[str, Assets] = {}
        self._lock = threading.Lock()
        self._reading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @property
    def resident(self) -> tuple[str, ...]:
        """Languages in memory; the one used last comes last."""
        with self._lock:
            return tuple(self._places)

    def ensure(self, language: str) -> None:
        """Load a language unless it is in memory. Takes as long as its file, or its download. Raises `ModelError`."""
        self._acquire(language, 0)
        self.vocabulary(language)

    def vocabulary(self, language: str) -> Vocabulary:
        """Raises `ModelError` as `ensure`."""
        if language not in self._vocabularies:
            tokens = self._tokens.get(language) or self._acquire(language, 0).tokens
            self._vocabularies[language] = self._vocabulary_of(language, tokens)
        return self._vocabularies[language]

    def assets(self, language: str) -> Assets:
        """Its calibration and its language model. Raises `ModelError` and `LanguageModelError`."""
        if language not in self._assets:
            self._assets[language] = self._assets_of(language, self.vocabulary(language))
        return self._assets[language]

    # ── batches ──

    def together(self, language: str | None, other: str | None) -> bool:
        """Whether rows of both may share a batch: their heads have the same padded width, and a narrow one."""
        if (language or self.default) == (other or self.default):
            return True
        width = self._width(language)
        return width in NARROW and width == self._width(other)

    def _width(self, language: str | None) -> int | None:
        """Of the bank of a language's head; None before the language was read once."""
        tokens = self._tokens.get(language or self.default or "")
        return None if tokens is None else head_width(tokens)

    @contextmanager
    def lease(self, languages: Sequence[str | None]) -> Generator[list[Place]]:
        """Keep the languages of a batch's rows in memory while it runs; None is the default. Raises `EngineError`."""
        held: dict[str, Place] = {}
        try:
            for language in languages:
                code = language or self.default
                if code is None:
                    raise EngineError(f"{self.name} has no default language: name one")
                if code not in held:
                    held[code] = self._acquire(code, 1)
            yield [held[language or self.default or ""] for language in languages]
        except ModelError as error:
            raise EngineError(str(error)) from error
        finally:
            with self._lock:
                for place in held.values():
                    place.leases -= 1

    def usual_heads(self) -> HeadBank:
        """The bank of most languages' heads."""
        with self._lock:
            return self._bank(NARROW[0])

    def _bank(self, width: int) -> HeadBank:
        if width not in self._heads:
            slots = self.adapters.slots if width in NARROW else min(_WIDE_SLOTS, self.adapters.slots)
            self._heads[width] = HeadBank(width, self._hidden, slots, self._device)
        return self._heads[width]

    # ── slots ──

    def _acquire(self, language: str, leases: int) -> Place:
        """The place of a language, which is read if need be; `leases` more batches use it."""
        if (place := self._found(language, leases)) is not None:
            return place
        if language not in self.known:
            raise ModelError(f"{self.name} has no language {language!r}")
        with self._reading[language]:  # nobody else waits for the file
            if (place := self._found(language, leases)) is not None:
                return place
            adapter = self._read(language)
            with self._lock:
                place = self._install(language, adapter)
                place.leases += leases
                return place

    def _found(self, language: str, leases: int) -> Place | None:
        with self._lock:
            place = self._places.get(language)
            if place is not None:
                self._places.move_to_end(language)
                place.leases += leases
            return place

    def _install(self, language: str, adapter: Adapter) -> Place:
        weight, bias = adapter.head
        bank = self._bank(head_width(len(weight)))
        used = {place.adapter for place in self._places.values()}
        slot = self._free(self.adapters.slots, used)
        if slot is None:
            slot = self._evicted(None).adapter
        heads = {place.head for place in self._places.values() if place.bank is bank}
        head = self._free(bank.slots, heads)
        if head is None:
            head = self._evicted(bank).head
        self.adapters.write(slot, adapter)
        bank.write(head, weight, bias)
        self.loads += 1
        self._tokens[language] = len(weight)
        place = self._places[language] = Place(slot, head, bank, len(weight))
        return place

    def _free(self, slots: int, used: set[int]) -> int | None:
        return next((slot for slot in range(slots) if slot not in used), None)

    def _evicted(self, bank: HeadBank | None) -> Place:
        """Drop the language that was used least recently, with a head in that bank if one is given."""
        for language, place in self._places.items():
            if not place.leases and (bank is None or place.bank is bank):
                return self._places.pop(language)
        raise EngineError("there is no room for another language: all in memory are in use")
