"""What live streams cost, and the arithmetic from streams to processes, cores, GPUs and network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import Final

MEASURED: Final = "measured"
CONSTANT: Final = "constant"  # of this project, or arithmetic from one
ASSUMED: Final = "assumed"


@dataclass(frozen=True)
class Costs:
    """Each figure has a line in `SOURCES`. *Stream-second*: one second of one live stream, speech or not."""

    front_ms: float = 4.3
    process_streams: int = 240
    haproxy_ms: float = 2.9
    python_proxy_ms: float = 25.7
    packaged_ms: float = 132.0
    int8_step_ms: float = 235.0
    int8_pass_ms: float = 919.0
    up_bytes: float = 33_640.0
    down_bytes: float = 1_250.0
    replay_s: float = 12.0
    silent_s: float = 15.0
    give_up_s: float = 60.0
    retry_after_s: float = 5.0
    speech: float = 0.6
    gflop: float = 110.0
    tflops: float = 790.0
    utilisation: float = 0.25
    front_share: float = 0.8
    gpu_share: float = 0.9
    open_s: float = 2.0
    session_s: float = 600.0
    removed_s: float = 2.0
    lost_removed_s: float = 45.0
    uplink_mbit: float = 10.0

    @property
    def gpu_streams(self) -> float:
        """Streams that keep a whole GPU busy."""
        return 1000 * self.tflops * self.utilisation / (self.gflop * self.speech)

    @property
    def int8_ms(self) -> float:
        """CPU of XLS-R 300M for a stream-second: while it is speech, a step for each 480 ms, and the final's pass."""
        return self.speech * (self.int8_step_ms / 0.48 + self.int8_pass_ms / 5)


SOURCES: Final[dict[str, tuple[str, str, str]]] = {  # meaning with its unit; measured or assumed; where it comes from
    "front_ms": (
        "front: CPU for a stream-second (ms)",
        MEASURED,
        "[a server without its model](measurements.md#a-server-without-its-model), 300 streams",
    ),
    "process_streams": (
        "streams that one process carries at most",
        MEASURED,
        "240 to 290, packets of 100 ms; prototype",
    ),
    "haproxy_ms": (
        "Ray Serve with HAProxy: CPU for a stream-second more than without (ms)",
        MEASURED,
        "[several replicas](measurements.md#several-replicas), mean of two turns",
    ),
    "python_proxy_ms": (
        "Ray Serve's own proxy: CPU for a stream-second (ms)",
        MEASURED,
        "2.8 ms a message instead of 0.23; prototype",
    ),
    "packaged_ms": (
        "packaged model with its n-gram: CPU for a second of speech, front included (ms)",
        MEASURED,
        "[live text](measurements.md#the-packaged-english-model)",
    ),
    "int8_step_ms": (
        "XLS-R 300M in int8: CPU for a step of 480 ms (ms)",
        MEASURED,
        "[number formats](measurements.md#number-formats-on-a-cpu)",
    ),
    "int8_pass_ms": ("the same for a full pass over 5 s (ms)", MEASURED, "the same"),
    "up_bytes": (
        "network to the server for a stream-second (bytes)",
        CONSTANT,
        "16 kHz, 16 bits, ten messages; with the headers of websocket, TCP and IP",
    ),
    "down_bytes": (
        "network from the server for a stream-second (bytes)",
        MEASURED,
        "events as JSON, without acknowledgements and headers: [load generator](benchmarks.md#many-client-processes)",
    ),
    "replay_s": (
        "audio before the open utterance that a moving session sends again (s)",
        CONSTANT,
        "[moving](protocol.md#moving)",
    ),
    "silent_s": ("until a client gives up a silent connection, at most (s)", CONSTANT, "`client/remote/liveness.py`"),
    "give_up_s": ("until a client without a server gives up (s)", CONSTANT, "`client/remote/stream.py`"),
    "retry_after_s": ("`Retry-After` of a full server (s)", CONSTANT, "`server/refusals.py`"),
    "speech": ("share of speech in a stream", ASSUMED, "conversation with pauses"),
    "gflop": (
        "XLS-R 300M: work for a second of speech (GFLOP)",
        ASSUMED,
        "two live passes and a final of 36 GFLOP, by the size of the model",
    ),
    "tflops": ("peak of a large GPU in bfloat16 (TFLOP/s)", ASSUMED, "data sheet of an H200"),
    "utilisation": ("share of that peak that is reached", ASSUMED, "nothing measured on a GPU"),
    "front_share": ("share of a front process that sessions may fill", ASSUMED, "room for moved sessions"),
    "gpu_share": ("share of a GPU that sessions may fill", ASSUMED, "room for moved sessions and for batching"),
    "open_s": ("audio of an open utterance, on average over sessions (s)", ASSUMED, "utterances of some 4 s"),
    "session_s": ("length of a session, exponential (s)", ASSUMED, "any mixture with this mean is similar"),
    "removed_s": ("until the balancer knows that a process is gone (s)", ASSUMED, "a probe every 2 s"),
    "lost_removed_s": ("until it knows that a machine is gone (s)", ASSUMED, "Kubernetes: 40 s and some more"),
    "uplink_mbit": ("uplink of a client (Mbit/s)", ASSUMED, "home and mobile lines"),
}
assert set(SOURCES) == {field.name for field in fields(Costs)}


@dataclass(frozen=True)
class MachineType:
    """One GPU, and front processes with at most `slots` sessions each."""

    cores: int = 16
    processes: int = 14

    def slots(self, costs: Costs) -> int:
        """Sessions that one process admits: by what it can do itself, and by its part of the GPU."""
        of_gpu = costs.gpu_share * costs.gpu_streams / self.processes
        return int(min(costs.front_share * costs.process_streams, of_gpu))

    def sessions(self, costs: Costs) -> int:
        return self.processes * self.slots(costs)


@dataclass(frozen=True)
class ScalePlan:
    """What `streams` live streams need, without a spare."""

    streams: int
    processes: int
    front_cores: float
    haproxy_cores: float
    python_proxy_cores: float
    gpus_busy: float  # at the assumed utilisation
    machines: int
    packaged_cores: float  # instead of GPUs, front included
    int8_cores: float  # instead of GPUs, without the front
    gbit_in: float  # per second
    gbit_out: float


def scale_plan(streams: int, costs: Costs, machine: MachineType) -> ScalePlan:
    return ScalePlan(
        streams=streams,
        processes=ceil(streams / costs.process_streams),
        front_cores=streams * costs.front_ms / 1000,
        haproxy_cores=streams * costs.haproxy_ms / 1000,
        python_proxy_cores=streams * costs.python_proxy_ms / 1000,
        gpus_busy=streams / costs.gpu_streams,
        machines=ceil(streams / machine.sessions(costs)),
        packaged_cores=streams * costs.speech * costs.packaged_ms / 1000,
        int8_cores=streams * costs.int8_ms / 1000,
        gbit_in=8e-9 * streams * costs.up_bytes,
        gbit_out=8e-9 * streams * costs.down_bytes,
    )
