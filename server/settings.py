"""Settings of one server: frozen, checked once. The same names in a file, in the environment and as flags (see
`configuration`); the bounds and the sentences below are those of all three.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ..streaming.config import MAX_RATE, MIN_RATE, Dtype
from ..streaming.errors import ConfigError

SECRET: Final = ("token",)  # never shown, and never a flag: flags stand in every process list


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, what to run, whom to let in, and the limit of everything a client can make grow.

    Raises `ConfigError` for a value out of range.
    """

    host: Annotated[str, Meta(description="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="0: any free port.")] = 8765
    tls_cert: Annotated[str | None, Meta(description="PEM file with the certificate and those above it.")] = None
    tls_key: Annotated[str | None, Meta(description="PEM file with its private key.")] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Address or network whose X-Forwarded-For and X-Forwarded-Proto are believed."),
    ] = ()
    origins: Annotated[
        tuple[str, ...], Meta(description="Web origin allowed besides the server's own and localhost.")
    ] = ()

    vosk_port: (
        Annotated[int, Meta(ge=0, le=65_535, description="Another port, for clients of Vosk's protocol.")] | None
    ) = None
    vosk_rate: Annotated[
        int, Meta(ge=MIN_RATE, le=MAX_RATE, description="Hz of Vosk's clients, if they name no rate.")
    ] = 8_000
    wyoming_port: (
        Annotated[int, Meta(ge=0, le=65_535, description="TCP port for Wyoming (Home Assistant); no token.")] | None
    ) = None
    wyoming_open: Annotated[
        bool, Meta(description="Serve Wyoming to other machines although there are tokens, for which it cannot ask.")
    ] = False

    token: Annotated[str | None, Meta(description="What clients send as bearer token.")] = None
    token_file: Annotated[str | None, Meta(description="File that holds the token and nothing else.")] = None
    tokens_file: Annotated[str | None, Meta(description="TOML file of named tokens and their limits.")] = None
    ticket_s: Annotated[float, Meta(gt=0, le=600, description="Seconds in which a ticket must be used.")] = 30.0

    model: Annotated[str, Meta(description="The packaged model, a Hugging Face name, or a checkpoint's folder.")] = (
        "bundled"
    )
    revision: Annotated[str | None, Meta(description="Commit, tag or branch of a Hugging Face model.")] = None
    language: Annotated[str | None, Meta(description="For models with a vocabulary for each language (MMS).")] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="Where the model runs.")] = "auto"
    dtype: Annotated[
        Dtype,
        Meta(description="Number format; int8 is the fastest for large models, on processors that have it."),
    ] = "auto"
    threads: Annotated[int, Meta(ge=1, description="CPU threads of the model.")] | None = None
    lm: Annotated[str | None, Meta(description="An n-gram or a folder with one; none: not the model's own either.")] = (
        None
    )
    calibration: Annotated[
        str | None, Meta(description="A calibration.json of confidences, or its folder; else the model's own.")
    ] = None
    lm_partials: Annotated[
        bool, Meta(description="Let clients have the language model in partials; that costs much time.")
    ] = False

    max_sessions: (
        Annotated[int, Meta(ge=1, description="More are refused; auto: as many as a short test shows.")]
        | (Literal["auto"])
    ) = "auto"
    max_client_sessions: Annotated[
        int, Meta(ge=0, description="Of one token, or of one address where there are none; 0: no limit.")
    ] = 0
    client_audio_s_per_minute: Annotated[
        float, Meta(ge=0, description="Audio of one client; more has to wait. 0: no limit.")
    ] = 0.0
    max_viewers: Annotated[int, Meta(ge=0, description="Of all shared sessions together; 0: none can be shared.")] = 500
    max_connections: Annotated[int, Meta(ge=10, description="Of any kind; more are closed at once.")] = 1_000
    max_message_bytes: Annotated[int, Meta(ge=1_024, description="Of one message.")] = 1 << 20  # 32 s of 16-bit mono
    max_upload_bytes: Annotated[int, Meta(ge=1_024, description="Of one request with a file.")] = 25 << 20
    max_session_bytes: Annotated[int, Meta(ge=1_024, description="Of one session's audio.")] = 4 << 30
    max_session_s: Annotated[float, Meta(gt=0, description="How long a session may last.")] = 6 * 3600.0
    max_unread_events: Annotated[int, Meta(ge=100, description="A client that leaves more is dropped.")] = 1_000
    idle_timeout_s: Annotated[float, Meta(gt=0, description="Without any message from the client.")] = 60.0
    request_timeout_s: Annotated[float, Meta(gt=0, description="For a whole HTTP request or handshake.")] = 10.0
    grace_s: Annotated[float, Meta(ge=0, description="For open utterances when the server stops.")] = 30.0
    resume_grace_s: Annotated[
        float, Meta(ge=0, le=600, description="For a client whose connection broke to come back; 0: it cannot.")
    ] = 30.0
    stall_s: Annotated[
        float, Meta(gt=0, description="A call of the model that takes longer has failed; its worker is replaced.")
    ] = 60.0

    log_format: Annotated[Literal["text", "json"], Meta(description="Of the log, on stderr.")] = "text"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least serious to log.")] = (
        "info"
    )

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(type(self)):  # decoding checks types and bounds; made in Python: here
            value = getattr(self, field.name)
            try:
                msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                raise ConfigError(problem(field.name, value, str(error))) from None
        if self.token is not None and not printable(self.token):
            raise ConfigError("token must be printable ASCII and not empty")
        if self.token is not None and self.token_file is not None:
            raise ConfigError("token and token_file are both given; one of them is enough")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key go together")
        tokens = (self.token, self.token_file, self.tokens_file) != (None, None, None)
        if self.wyoming_port is not None and tokens and not self.loopback and not self.wyoming_open:
            raise ConfigError(
                f"Wyoming's protocol knows no token, so on {self.host} anyone could use the server without; "
                "set wyoming_open if that is meant"
            )
        for origin in self.origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                raise ConfigError(f"origins: {origin!r} must look like https://example.org, without a path")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy, strict=False)
            except ValueError:
                raise ConfigError(f"trusted_proxies: {proxy!r} is no address or network such as 10.0.0.0/8") from None

    def __repr__(self) -> str:
        shown = {field: getattr(self, field) for field in self.__struct_fields__ if field not in SECRET}
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def hard_limit_bytes(self) -> int:
        """Where the websocket layer gives up: a message up to here is answered with an `error` event first."""
        return 4 * self.max_message_bytes

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def problem(name: str, value: Any, why: str) -> str:
    """The sentence about a value out of range; that of a secret stays one."""
    return f"{name}: {why}" if name in SECRET else f"{name} is {value!r}: {why.partition(' - at ')[0]}"


def printable(token: str) -> bool:
    return token.isascii() and token.isprintable() and bool(token.strip())


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
