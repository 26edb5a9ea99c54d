"""A bad network in user space: it drops, delays, duplicates and reorders packets between two network namespaces.

Replaces `tc qdisc ... netem`, which many kernels lack: a thread forwards packets between two TUN devices, one in this
namespace and one in a second one. A socket belongs to the namespace that creates it, so remote clients need no process
of their own. Needs CAP_SYS_ADMIN, CAP_NET_ADMIN and the program `ip`.
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

NEAR_ADDRESS, FAR_ADDRESS = "10.211.0.1", "10.211.0.2"
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def enter_own_namespace() -> None:
    """Move this thread, and the threads it starts, into a new network namespace. Raises `OSError` if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def available() -> bool:
    """Whether this process may create network namespaces and TUN devices."""
    if not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
        return False
    try:
        in_own_namespace(lambda: os.close(_tun("probe", NEAR_ADDRESS)))
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def in_own_namespace(run: Callable[[], T]) -> T:
    """Call `run` in a thread that has its own network namespace."""
    with ThreadPoolExecutor(1, initializer=enter_own_namespace) as pool:
        return pool.submit(run).result()


def _tun(name: str, address: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    for command in (("addr", "add", f"{address}/24", "dev", name), ("link", "set", name, "up")):
        subprocess.run(["ip", *command], check=True)
    return descriptor


@dataclass
class LinkQuality:
    """How the link treats the packets of one client, in both directions."""

    loss: float = 0.0  # probability
    delay_s: float = 0.0
    jitter_s: float = 0.0  # reorders packets if longer than the interval between them
    duplication: float = 0.0  # probability


class BadLink:
    """Links this namespace to a second one. Call it inside `in_own_namespace`. `qualities` is keyed by client port."""

    def __init__(self, seed: int) -> None:
        self.qualities: dict[int, LinkQuality] = {}
        self.passed = self.lost = 0
        self._random = Random(seed)
        self._far = ThreadPoolExecutor(1, initializer=enter_own_namespace)
        self._stop, self._stopped = os.pipe()

    def __enter__(self) -> Self:
        self._ends = _tun("near", NEAR_ADDRESS), self._far.submit(_tun, "far", FAR_ADDRESS).result()
        self._thread = threading.Thread(target=self._forward, name="bad-link")
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

    def socket(self, quality: LinkQuality) -> socket.socket:
        """A socket of the far namespace. It can connect to NEAR_ADDRESS."""
        created = self._far.submit(socket.socket, socket.AF_INET, socket.SOCK_STREAM).result()
        created.setblocking(False)
        created.bind((FAR_ADDRESS, 0))
        self.qualities[created.getsockname()[1]] = quality
        return created

    def _forward(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []  # due, order, target, packet
        order = count()
        near, far = self._ends
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([near, far, self._stop], [], [], timeout)
            if self._stop in ready:
                return
            for source in ready:
                packet, target = os.read(source, 65_536), far if source == near else near
                for delay in self._delays(packet):
                    heapq.heappush(waiting, (time.monotonic() + delay, next(order), target, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                *_, target, packet = heapq.heappop(waiting)
                os.write(target, packet)

    def _delays(self, packet: bytes) -> list[float]:
        """The delay of each copy of the packet, in seconds; an empty list if it is lost."""
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return []
        ports = struct.unpack_from("!HH", packet, 4 * (packet[0] & 15))
        quality = next((self.qualities[port] for port in ports if port in self.qualities), LinkQuality())
        copies = (self._random.random() >= quality.loss) * (1 + (self._random.random() < quality.duplication))
        self.passed += copies > 0
        self.lost += copies == 0
        return [quality.delay_s + quality.jitter_s * self._random.random() for _ in range(copies)]
