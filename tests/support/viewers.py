"""What viewers of a shared session receive."""

from __future__ import annotations

from xlsr_live.streaming.protocol.events import Event, Shared, from_json


def read_viewed(data: str) -> list[tuple[str, Event]]:
    """Server-sent events but the title as (id, event), parsed by the rules of the HTML standard."""
    found: list[tuple[str, Event]] = []
    for block in data.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((fields.get("id", ""), from_json(fields["data"])))
    return [(number, event) for number, event in found if not isinstance(event, Shared)]
