"""When live steps interrupt a full pass that one thread computes: between its layers, and if they cannot wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Interruptions:
    """Those of one pass. Steps take about as much time as its layers at most: it takes at most about twice as long."""

    spent_s: float = 0.0  # in live steps
    _begun: float = 0.0  # time of the first layer

    def before(self, now: float, share: float) -> float | None:
        """The expected end of the pass, by the speed of this share of its layers. Steps that are due before it should
        run now. None before the first layer, and if steps have had their time."""
        if not share:
            self._begun, self.spent_s = now, 0.0
            return None
        layers_s = now - self._begun - self.spent_s
        return now + layers_s * (1 / share - 1) if self.spent_s <= layers_s else None
