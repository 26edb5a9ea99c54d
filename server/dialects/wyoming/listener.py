"""The TCP listener for Wyoming clients."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from ... import logs
from ...sessions.admission import Admission
from .live import WyomingDialect
from .packets import LONGEST_HEADER, WyomingTransport


async def listen(listener: Any, admission: Admission) -> asyncio.Server:
    """Serve Wyoming clients on a listening socket. A client leases a slot when it connects, as a websocket does. If
    none is free, it can still read the server's description, and is refused once it sends audio.
    """
    settings, sessions = admission.settings, admission.sessions

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        logs.session.set(name := secrets.token_hex(4))
        transport = WyomingTransport(reader, writer, settings.max_message_bytes)
        peer = writer.get_extra_info("peername")  # None: the client has already left
        try:
            if peer is not None and not sessions.draining and not admission.crowded:
                with admission.lease(admission.access.anonymous(peer[0])) as lease:
                    stream = WyomingDialect(name, transport, lease)
                    with lease.registered(stream):
                        await stream.run()
        finally:
            writer.close()

    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = serve
    return await asyncio.start_server(handler, sock=listener, limit=LONGEST_HEADER)
