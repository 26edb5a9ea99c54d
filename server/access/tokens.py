"""Bearer tokens, their owners, and the limits of each owner."""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from ...streaming.errors import ConfigError
from ...streaming.textfile import read_text
from ..settings import ServerSettings, printable


class Client(NamedTuple):
    """One account, with any number of connections."""

    name: str  # the name of its token, or its address
    max_sessions: int = 0  # 0: no limit
    audio_s_per_minute: float = 0.0  # 0: no limit
    admin: bool = False  # may change the model


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One table of a tokens file, under the client's name."""

    token: str | None = None
    sha256: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")] | None = None  # of the token, for a file without secrets
    max_sessions: Annotated[int, Meta(ge=0)] | None = None  # None: as in the settings
    audio_s_per_minute: Annotated[float, Meta(ge=0)] | None = None
    admin: bool = False


class Tokens:
    """All tokens of a server; a server without tokens admits every client."""

    def __init__(self, owners: dict[bytes, Client]) -> None:
        self._owners = owners  # by the digest of the token

    @property
    def required(self) -> bool:
        return bool(self._owners)

    def owner(self, token: str) -> Client | None:
        """The token's owner. Takes the same time for every token: it compares all digests, which have equal length."""
        own = digest(token)
        found = [owner for known, owner in self._owners.items() if hmac.compare_digest(known, own)]
        return found[0] if found else None


def load_tokens(settings: ServerSettings) -> Tokens:
    """The tokens in the settings and in the files that they name. Raises `ConfigError`."""
    limits = settings.max_client_sessions, settings.client_audio_s_per_minute
    owners: dict[bytes, Client] = {}
    single = settings.token if settings.token_file is None else _read(settings.token_file).strip()
    if single is not None:
        if not printable(single):
            raise ConfigError(f"{settings.token_file}: the token must be one line of printable ASCII")
        owners[digest(single)] = Client("token", *limits)
    if settings.tokens_file is not None:
        for key, client in _read_tokens(settings.tokens_file, limits):
            if key in owners:
                raise ConfigError(f"{settings.tokens_file}: {client.name} and {owners[key].name} have the same token")
            owners[key] = client
        if not owners:  # otherwise a file emptied by mistake would admit every client
            raise ConfigError(f"{settings.tokens_file} has no tokens")
    return Tokens(owners)


def _read_tokens(file: str, limits: tuple[int, float]) -> list[tuple[bytes, Client]]:
    text = _read(file)
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    owners: list[tuple[bytes, Client]] = []
    for name, value in table.items():
        lines = enumerate(text.splitlines(), 1)
        line = next((number for number, line in lines if re.match(rf"\s*\[?\s*[\"']?{re.escape(name)}\b", line)), 1)
        where = f"{file}, line {line}, {name}"
        try:
            entry = msgspec.convert(value, _Entry)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {error}") from None
        if (entry.token is None) == (entry.sha256 is None):
            raise ConfigError(f"{where}: give either token or sha256")
        if entry.token is not None and not printable(entry.token):
            raise ConfigError(f"{where}: a token must be printable ASCII and not empty")
        key = bytes.fromhex(entry.sha256) if entry.sha256 else digest(entry.token or "")
        own = entry.max_sessions, entry.audio_s_per_minute
        sessions, audio = (each if each is not None else limit for each, limit in zip(own, limits, strict=True))
        owners.append((key, Client(name, int(sessions), audio, entry.admin)))
    return owners


def digest(secret: str) -> bytes:
    """SHA-256 of a token, ticket or key: the server keeps only digests."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _read(file: str) -> str:
    return read_text(Path(file).expanduser(), "the tokens in")
