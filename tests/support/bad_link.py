"""A bad network in user space: packets between two network namespaces are dropped, delayed, doubled, put out of order.

Does what `tc qdisc ... netem` would, which many kernels lack: two TUN devices, one here and one in a namespace of its
own, and a thread between them. A socket belongs to the namespace in which it was made, so clients "far away" need no
other process. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and the program `ip`.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from random import Random
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

HERE, THERE = "10.211.0.1", "10.211.0.2"
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def alone() -> None:
    """Move this thread, and those that it starts, into a network of its own. Raises `OSError` if it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def possible() -> bool:
    """Whether networks of one's own can be had."""
    if not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
        return False
    try:
        apart(lambda: os.close(_tun("probe", HERE)))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def apart(run: Callable[[], T]) -> T:
    """Run in a thread with a network of its own."""
    with ThreadPoolExecutor(1, initializer=alone) as pool:
        return pool.submit(run).result()


def _tun(name: str, address: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (("addr", "add", f"{address}/24", "dev", name), ("link", "set", name, "up")):
        subprocess.run(["ip", *command], check=True)
    return descriptor


@dataclass
class Quality:
    """Of one client's packets, in both directions."""

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0  # more than the time between packets puts them out of order
    doubled: float = 0.0


class BadLink:
    """Between this namespace, which should be the caller's own (`alone`), and another. `qualities` by client port."""

    def __init__(self, seed: int) -> None:
        self.qualities: dict[int, Quality] = {}
        self.passed = self.lost = 0
        self._random = Random(seed)
        self._far = ThreadPoolExecutor(1, initializer=alone)
        self._stop, self._stopped = os.pipe()

    def __enter__(self) -> Self:
        self._ends = _tun("near", HERE), self._far.submit(_tun, "far", THERE).result()
        self._thread = threading.Thread(target=self._carry, name="bad-link")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        self._far.shutdown()
        for descriptor in (*self._ends, self._stop, self._stopped):
            os.close(descriptor)

    def socket(self, quality: Quality) -> socket.socket:
        """A socket far away, from which HERE can be reached."""
        made = self._far.submit(socket.socket, socket.AF_INET, socket.SOCK_STREAM).result()
        made.setblocking(False)
        made.bind((THERE, 0))
        self.qualities[made.getsockname()[1]] = quality
        return made

    def _carry(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []  # due, order, where to, packet
        order = count()
        near, far = self._ends
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([near, far, self._stop], [], [], timeout)
            if self._stop in ready:
                return
            for source in ready:
                packet, target = os.read(source, 65_536), far if source == near else near
                for delay in self._fates(packet):
                    heapq.heappush(waiting, (time.monotonic() + delay, next(order), target, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                *_, target, packet = heapq.heappop(waiting)
                os.write(target, packet)

    def _fates(self, packet: bytes) -> list[float]:
        """After how long each copy of the packet arrives."""
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return []
        ports = struct.unpack_from("!HH", packet, 4 * (packet[0] & 15))
        quality = next((self.qualities[port] for port in ports if port in self.qualities), Quality())
        copies = (self._random.random() >= quality.loss) * (1 + (self._random.random() < quality.doubled))
        self.passed += copies > 0
        self.lost += copies == 0
        return [quality.delay_s + quality.jitter_s * self._random.random() for _ in range(copies)]
