"""The settings of one server: frozen, checked once. `configuration` reads them from a file, the environment and flags;
the bounds and descriptions below apply to all three.
"""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ..streaming.config import DEVICE, MAX_RATE, MIN_RATE, Dtype
from ..streaming.errors import ConfigError

SECRET: Final = ("token",)  # not shown, and not a flag: process lists show flags
NOT_REPLICABLE: Final = {
    "tls_cert": "end TLS in a proxy in front of them",
    "vosk_port": "Vosk's clients can use their common port",
    "wyoming_port": "run one server for Wyoming",
    "fronts": "use more replicas",
}


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Addresses, access, the model, and limits of all resources that clients use.

    Raises `ConfigError` for a value out of range.
    """

    host: Annotated[str, Meta(description="Address to listen on; 0.0.0.0 for all addresses.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="TCP port; 0 for any free port.")] = 8765
    tls_cert: Annotated[str | None, Meta(description="PEM file with the certificate chain.")] = None
    tls_key: Annotated[str | None, Meta(description="PEM file with the private key.")] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Address or network of a proxy whose X-Forwarded-For and X-Forwarded-Proto are trusted."),
    ] = ()
    origins: Annotated[
        tuple[str, ...], Meta(description="Web origin whose pages may use the server, besides its own and localhost.")
    ] = ()

    vosk_port: (
        Annotated[int, Meta(ge=0, le=65_535, description="Additional port for clients of Vosk's protocol.")] | None
    ) = None
    vosk_rate: Annotated[
        int, Meta(ge=MIN_RATE, le=MAX_RATE, description="Sample rate in Hz of Vosk clients that send none.")
    ] = 8_000
    wyoming_port: (
        Annotated[int, Meta(ge=0, le=65_535, description="TCP port for Wyoming (Home Assistant); it has no tokens.")]
        | None
    ) = None
    wyoming_open: Annotated[
        bool, Meta(description="Serve other machines over Wyoming, which has no tokens, even if tokens are set.")
    ] = False

    token: Annotated[str | None, Meta(description="The token that clients must send.")] = None
    token_file: Annotated[str | None, Meta(description="File that holds only the token.")] = None
    tokens_file: Annotated[str | None, Meta(description="TOML file with named tokens and their limits.")] = None
    ticket_s: Annotated[float, Meta(gt=0, le=600, description="Seconds until a ticket expires.")] = 30.0

    model: Annotated[str, Meta(description="bundled, a Hugging Face name, or a checkpoint folder.")] = "bundled"
    revision: Annotated[str | None, Meta(description="Commit, tag or branch of a Hugging Face model.")] = None
    language: Annotated[
        str | None,
        Meta(
            description="Language of sessions that name none, for models with many (MMS); auto: each utterance's own."
        ),
    ] = None
    allowed_languages: Annotated[
        tuple[str, ...], Meta(description="With language auto: two to ten languages that may occur.")
    ] = ()
    lid: Annotated[
        str | None,
        Meta(
            description="Checkpoint that identifies the language for auto (MMS-LID); default: the model's confidence."
        ),
    ] = None
    device: Annotated[
        str, Meta(pattern=DEVICE, description="Device of the model: auto, cpu, cuda, or cuda:1 for another GPU.")
    ] = "auto"
    dtype: Annotated[
        Dtype,
        Meta(description="Number format; int8 is fastest for large models on processors that support it."),
    ] = "auto"
    threads: Annotated[int, Meta(ge=1, description="CPU threads of the model.")] | None = None
    lm: Annotated[
        str | None, Meta(description="n-gram language model: a file or folder, or bundled; none: no language model.")
    ] = None
    calibration: Annotated[
        str | None, Meta(description="calibration.json for confidences, or its folder; default: the model's own.")
    ] = None
    punctuation_model: Annotated[
        str | None, Meta(description="Model for sessions with punctuation: folder or name; default: stops at pauses.")
    ] = None
    translators: Annotated[
        tuple[str, ...],
        Meta(description="What translates finals: apertium, or a checkpoint; the first that knows a pair is used."),
    ] = ()
    translate_from: Annotated[
        str | None, Meta(description="Language of the speech, if the checkpoint does not say it.")
    ] = None
    translate_beams: Annotated[int, Meta(ge=1, description="Beams of a neural translator; 1: greedy.")] = 1
    translate_max_lag: Annotated[
        float, Meta(gt=0, description="A translation that would come later than so many seconds is skipped.")
    ] = 10.0
    lm_partials: Annotated[
        bool, Meta(description="Allow clients to use the language model in partials, which costs much CPU time.")
    ] = False

    replicas: Annotated[
        int, Meta(ge=1, description="Servers that share the port, each a process with its own model (Ray Serve).")
    ] = 1
    max_replicas: (
        Annotated[int, Meta(ge=1, description="Limit of replicas: more than `replicas` run while sessions need them.")]
        | None
    ) = None
    replica_cpus: Annotated[float, Meta(gt=0, description="CPUs of one replica; also its threads if not set.")] = 1.0
    replica_gpus: Annotated[float, Meta(ge=0, description="GPUs of one replica, or a part of one: 0.25.")] = 0.0
    ray_dashboard: Annotated[
        bool, Meta(description="Start Ray's dashboard, on this machine only; it has no access control.")
    ] = False

    fronts: Annotated[
        int,
        Meta(ge=1, le=128, description="Processes for sessions; with several, one more process runs the model."),
    ] = 1
    max_sessions: (
        Annotated[int, Meta(ge=1, description="Limit of open sessions; auto: measure at the first start.")]
        | (Literal["auto"])
    ) = "auto"
    max_client_sessions: Annotated[
        int, Meta(ge=0, description="Limit of sessions per token, or per address without tokens; 0: no limit.")
    ] = 0
    client_audio_s_per_minute: Annotated[
        float, Meta(ge=0, description="Audio seconds per minute of one client; more is delayed. 0: no limit.")
    ] = 0.0
    max_viewers: Annotated[int, Meta(ge=0, description="Limit of viewers of all shared sessions; 0: no sharing.")] = 500
    max_connections: Annotated[int, Meta(ge=10, description="Limit of connections; more are closed at once.")] = 1_000
    max_message_bytes: Annotated[int, Meta(ge=1_024, description="Limit of one message.")] = (
        1 << 20
    )  # 32 s of 16-bit mono
    max_upload_bytes: Annotated[int, Meta(ge=1_024, description="Limit of one uploaded file.")] = 25 << 20
    max_session_bytes: Annotated[int, Meta(ge=1_024, description="Limit of one session's audio.")] = 4 << 30
    max_session_s: Annotated[float, Meta(gt=0, description="Limit of the length of a session.")] = 6 * 3600.0
    max_unread_events: Annotated[int, Meta(ge=100, description="A client with more unread events is dropped.")] = 1_000
    idle_timeout_s: Annotated[float, Meta(gt=0, description="A client that sends nothing this long is dropped.")] = 60.0
    request_timeout_s: Annotated[float, Meta(gt=0, description="Time for a whole HTTP request or TLS handshake.")] = (
        10.0
    )
    grace_s: Annotated[float, Meta(ge=0, description="Time to finish open utterances when the server stops.")] = 30.0
    move_s: Annotated[
        float,
        Meta(ge=0, description="Of that, at most half, for clients to move to another server after SIGTERM; 0: none."),
    ] = 10.0
    resume_grace_s: Annotated[
        float, Meta(ge=0, le=600, description="Time to resume a session after a lost connection; 0: no resuming.")
    ] = 30.0
    stall_s: Annotated[
        float, Meta(gt=0, description="A model call that takes longer counts as failed; its worker is replaced.")
    ] = 60.0

    log_format: Annotated[Literal["text", "json"], Meta(description="Format of the log on stderr.")] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe level to log.")
    ] = "info"

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(type(self)):  # msgspec itself checks only while it decodes
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                raise ConfigError(describe_error(field.name, value, str(error))) from None
        if self.fronts > 1 and os.name != "posix":
            raise ConfigError("fronts: this system has no several fronts; leave it at 1")
        if self.token is not None and not printable(self.token):
            raise ConfigError("token must be printable ASCII and not empty")
        if self.token is not None and self.token_file is not None:
            raise ConfigError("token and token_file are both set; set only one of them")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key must be set together")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ConfigError(f"max_replicas is {self.max_replicas}, less than replicas ({self.replicas})")
        tokens = (self.token, self.token_file, self.tokens_file) != (None, None, None)
        if self.wyoming_port is not None and tokens and not self.loopback and not self.wyoming_open:
            raise ConfigError(
                f"Wyoming's protocol has no tokens: anyone who can reach {self.host} could use the server; "
                "set wyoming_open to allow that"
            )
        for origin in self.origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ConfigError(f"origins: {origin!r} must look like https://example.org, without a path")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ConfigError(f"trusted_proxies: {proxy!r} is not an address or a network (10.0.0.0/8)") from None

    def __repr__(self) -> str:
        shown = {field: getattr(self, field) for field in self.__struct_fields__ if field not in SECRET}
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def hard_limit_bytes(self) -> int:
        """A larger message cuts the connection; one between `max_message_bytes` and this gets an `error` event."""
        return 4 * self.max_message_bytes

    @property
    def replicated(self) -> bool:
        """Whether several processes serve."""
        return self.replicas > 1 or self.max_replicas is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def check_replicable(settings: ServerSettings) -> None:
    """Raise `ConfigError` for settings that replicas cannot have."""
    for name, why in NOT_REPLICABLE.items():
        if getattr(settings, name) not in (None, 1):
            raise ConfigError(f"replicas cannot have {name}: {why}")


def describe_error(name: str, value: Any, reason: str) -> str:
    """One sentence about an invalid value, without secrets."""
    return f"{name}: {reason}" if name in SECRET else f"{name} is {value!r}: {reason.partition(' - at ')[0]}"


def printable(token: str) -> bool:
    return token.isascii() and token.isprintable() and bool(token.strip())


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
