"""Cues in SubRip and WebVTT format."""

from __future__ import annotations

from .cues import Cue

VTT_SIGNATURE = "WEBVTT\n"


def vtt_header(language: str = "") -> str:
    """What follows the signature: the language of the text, a BCP 47 tag, as YouTube and HLS packagers write it."""
    return f"Language: {language}\n\n" if language else "\n"


def srt(number: int, cue: Cue) -> str:
    """A SubRip cue; numbers start at 1."""
    return f"{number}\n{_times(cue, ',')}\n" + "\n".join(cue.lines) + "\n\n"


def vtt(cue: Cue, language: str = "") -> str:
    """A WebVTT cue (W3C). `language` is a BCP 47 tag, if the cue's differs from that of the header."""
    text = "\n".join(cue.lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{_times(cue, '.')}\n" + (f"<lang {language}>{text}</lang>" if language else text) + "\n\n"


def clock(seconds: float, mark: str = ".") -> str:
    """`hh:mm:ss.mmm`, with `mark` before the milliseconds."""
    whole, millis = divmod(round(seconds * 1000), 1000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{secs:02}{mark}{millis:03}"


def short_clock(seconds: float) -> str:
    """`m:ss.t`, with hours if there are any."""
    minutes, secs = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02}" if hours else f"{minutes}") + f":{secs // 10:02}.{secs % 10}"


def _times(cue: Cue, mark: str) -> str:
    return f"{clock(cue.start, mark)} --> {clock(cue.end, mark)}"
