"""A short fault campaign with every kind of fault; `faults.py` runs a thousand faults."""

from __future__ import annotations

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.load.fault_kinds import KINDS, NEEDS_A_LINK
from tests.load.faults import run
from tests.support.bad_link import NEAR_ADDRESS, BadLink, LinkQuality, available, in_own_namespace
from tests.support.paths import DIGITS


@pytest.mark.slow
@pytest.mark.network
def test_faults_of_other_clients_change_no_session_and_leave_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.ERROR, "asyncio")
    kinds = len(KINDS) - (0 if available() else len(NEEDS_A_LINK))
    with (tmp_path / "log").open("w+") as log:
        found = run(42, seed=1, model=str(DIGITS), log=log)
    assert not found.problems
    assert found.done.total() == 42
    assert len(found.done) == kinds  # each at least once
    assert found.events > 50  # received by the witnesses meanwhile


@pytest.mark.network
@pytest.mark.skipif(not available(), reason="network namespaces need root, and the program ip")
def test_tcp_survives_a_link_that_drops_delays_and_duplicates_packets():
    data = bytes(range(256)) * 500

    def talk() -> tuple[bytes, int]:
        with BadLink(1) as link, socket.create_server((NEAR_ADDRESS, 0)) as server, ThreadPoolExecutor(1) as executor:
            with link.socket(LinkQuality(loss=0.05, delay_s=0.001, jitter_s=0.003, duplication=0.05)) as client:
                client.settimeout(60)
                client.connect(server.getsockname())
                near, _ = server.accept()
                with near:
                    near.settimeout(60)
                    sending = executor.submit(near.sendall, data)
                    received = b""
                    while len(received) < len(data) and (part := client.recv(65_536)):
                        received += part
                    sending.result()
            return received, link.lost

    received, lost = in_own_namespace(talk)
    assert received == data
    assert lost > 5
