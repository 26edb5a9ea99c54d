"""Deepgram's `POST /v1/listen`: a file as the body, its transcript as the response."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, BinaryIO, Final, cast

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ....streaming.config import AudioFormat, SessionConfig
from ....streaming.errors import ConfigError
from ....streaming.protocol import events
from ....streaming.protocol.codes import Code
from ....streaming.recognizer import Recognizer
from ..containers import MAGIC
from ..uploads import Blocks, Upload, tag
from . import shapes
from .query import Query

_PIECE_BYTES: Final = 32_768
_HEADERS: Final = (b"RIFF", b"RF64", b"fLaC", b"ID3", b"FORM", b".snd", *MAGIC)


def has_header(head: bytes) -> bool:
    """Whether the first 12 bytes are those of a known audio file, and not of raw samples."""
    return head.startswith(_HEADERS) or head[4:8] == b"ftyp"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


class Prerecorded(Upload):
    """A file in Deepgram's HTTP protocol."""

    dialect = "deepgram_http"

    async def read(self, request: Request) -> None:
        self._query = Query(request.query_params)
        if request.headers.get("content-type", "").startswith("application/json"):
            raise ConfigError("the server does not fetch audio from addresses; send the audio itself")
        self.config, self.phrases = SessionConfig(), self._query.phrases
        self.file = UploadFile(cast(BinaryIO, tempfile.SpooledTemporaryFile(1 << 20)))  # noqa: SIM115  closed with the upload
        digest = hashlib.sha256()
        async for piece in request.stream():
            digest.update(piece)
            await self.file.write(piece)
        await self.file.seek(0)
        self._sum = digest.hexdigest()

    def open_file(self, path: Path) -> tuple[AudioFormat, Blocks]:
        """`encoding` and `sample_rate` declare raw samples. As with the service, a file with a header needs neither."""
        with path.open("rb") as file:
            head = file.read(12)
        if self._query.audio is None or has_header(head):
            return super().open_file(path)
        return self._query.audio, _pieces(path)

    def settings(self, recognizer: Recognizer) -> SessionConfig:
        return self._query.with_language(self.config, recognizer)

    @staticmethod
    def refused(code: str, why: str | None = None) -> Response:
        damaged = "failed to process audio: corrupt or unsupported data"
        return shapes.refusal(code, damaged if code == Code.BAD_AUDIO else why)

    def result(self, finals: list[events.Final]) -> Response:
        info, model = self.recognizer.info, shapes.model_id(self.recognizer.info)
        about = shapes.metadata(str(uuid.uuid4()), self._sum, self.audio_s, self.audio.channels)
        about |= {"models": [model], "model_info": {model: shapes.model_info(info)}}
        channel: dict[str, Any] = {"alternatives": [self._alternative(finals)]}
        if (language := self.main_language(finals)) is not None:
            channel["detected_language"] = language
        results: dict[str, Any] = {"channels": [channel]}
        if self._query.utterances:
            results["utterances"] = [
                {"id": str(uuid.uuid4()), "channel": 0, "start": final.start, "end": final.end}
                | self._alternative([final])
                for final in finals
            ]
        return JSONResponse({"metadata": about, "results": results})

    def _alternative(self, finals: list[events.Final]) -> dict[str, Any]:
        """The confidence of several utterances is the mean of their words."""
        spoken = [word for final in finals for word in final.words]
        words = [each for final in finals for each in shapes.words(final.words, tag(final))]
        mean = fmean(word.confidence for word in spoken) if spoken else 0.0
        return {
            "transcript": self.joined(finals),
            "confidence": finals[0].confidence if len(finals) == 1 else round(mean, 3),
            "words": words,
        }
