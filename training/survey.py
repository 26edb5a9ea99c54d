"""Examines the data before training: usable recordings, the problems of the others, and the split by speakers."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from ..streaming.ctc.normal_form import NormalForm
from ..streaming.ctc.vocabulary import Vocabulary
from ..streaming.frames import SAMPLE_RATE, frames
from .alphabet import Alphabet, choose_alphabet
from .errors import TrainingError
from .recordings import Decoded, Listed

LONGEST: Final = 20.0  # seconds: the longest utterance of a live session
SILENT: Final = 1e-4  # root mean square
SPLIT_SEED: Final = 1
SPLIT: Final = 0.1  # share of the recordings for validation, where no table gives it
SPLIT_SECONDS: Final = 600.0  # of validation, at most
FEWEST_SPEAKERS: Final = 5  # for a split by speakers
FOREIGN: Final = 0.1  # share of texts with letters that the base lacks, from which a new vocabulary is made

Choice = Literal["auto", "keep", "new"]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A usable recording: where its samples are, its text in normal form, and the labels of the text."""

    decoded: Decoded
    text: str
    labels: tuple[int, ...]
    speaker: str
    path: Path

    @property
    def samples(self) -> int:
        return self.decoded.samples


@dataclass(slots=True)
class Survey:
    """The usable recordings, and the findings, one sentence each."""

    vocabulary: Vocabulary
    alphabet: Alphabet | None  # None: the base's own vocabulary is kept
    training: list[Spoken] = field(default_factory=list[Spoken])
    validation: list[Spoken] = field(default_factory=list[Spoken])
    notes: list[str] = field(default_factory=list[str])
    left_out: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # reason, files

    @property
    def sentences(self) -> list[str]:
        """All findings."""
        return [*(_left_out(reason, names) for reason, names in self.left_out.items()), *self.notes]


def survey(
    training: Sequence[tuple[Listed, Decoded]],
    validation: Sequence[tuple[Listed, Decoded]] | None,
    vocabulary: Vocabulary | None,
    choice: Choice = "auto",
) -> Survey:
    """Look at all recordings. `vocabulary` is the base's; None needs a new one. Raises `TrainingError`."""
    rows = [*training, *(validation or ())]
    texts = [listed.text for listed, decoded in rows if listed.text and not decoded.problem and not _digits(listed)]
    if not texts:
        raise TrainingError(f"none of {len(rows)} recordings can be read and has a transcript: nothing can be learnt")
    alphabet = _alphabet(texts, vocabulary, choice)
    found = Survey(alphabet.vocabulary if alphabet else vocabulary or Vocabulary((), 0), alphabet)
    _describe_texts(found, texts)
    _describe_audio(found, [decoded for _, decoded in rows])
    found.training = _usable(found, training)
    if validation is None:
        found.training, found.validation, how = _split(found.training)
        found.notes.append(how)
    else:
        found.validation = _usable(found, validation)
        _compare(found)
    _check(found, len(rows))
    return found


def _alphabet(texts: Sequence[str], vocabulary: Vocabulary | None, choice: Choice) -> Alphabet | None:
    """The alphabet of a new head; None to keep the base's vocabulary, if it can write the texts."""
    if choice == "new" or vocabulary is None:
        if choice == "keep":
            raise TrainingError("the base has no vocabulary to keep; leave --vocabulary keep out")
        return choose_alphabet(texts)
    sub_words = any(len(text.strip()) > 1 for text in vocabulary.texts)
    if choice == "keep" and sub_words:
        raise TrainingError("the base writes sub-words, which cannot be kept: leave --vocabulary keep out")
    if choice == "keep" or sub_words:
        return choose_alphabet(texts) if sub_words else None
    form = NormalForm(vocabulary)
    foreign = sum(bool(form.lacking(text)) for text in texts)
    # A stray foreign letter is no reason for another vocabulary; the letters of another language are.
    return choose_alphabet(texts) if foreign > FOREIGN * len(texts) else None


def _usable(found: Survey, rows: Sequence[tuple[Listed, Decoded]]) -> list[Spoken]:
    form = NormalForm(found.vocabulary)
    index = {text: token for token, text in reversed([*enumerate(found.vocabulary.texts)]) if text}
    seen: set[str] = set()
    kept: list[Spoken] = []
    for listed, decoded in rows:
        text = form(listed.text)
        labels = tuple(index.get(letter, -1) for letter in text)
        reason = _problem(listed, decoded, text, labels)
        if not reason and str(listed.path) in seen:
            reason = "listed twice and used once"
        seen.add(str(listed.path))
        if reason:
            found.left_out.setdefault(reason, []).append(f"{listed.path.name}{_detail(listed, decoded, form)}")
        else:
            kept.append(Spoken(decoded, text, labels, listed.speaker, listed.path))
    return kept


def _problem(listed: Listed, decoded: Decoded, text: str, labels: Sequence[int]) -> str:
    """Why a recording is left out; empty if it is not."""
    if decoded.problem:
        return "unreadable"
    if not listed.text.strip():
        return "without text (those without speech are for --noise)"
    if not text:
        return "no letter in the text"
    if _digits(listed) and -1 in labels:
        return "digits in the text (write numbers as they are said)"
    if -1 in labels:
        return "characters that the vocabulary lacks"
    if decoded.level < SILENT:
        return "silent"
    if decoded.seconds > LONGEST:
        return f"longer than {LONGEST:g} s (cut them at pauses)"
    if frames(decoded.samples) < needed(labels):
        return "too short for the text"
    return ""


def needed(labels: Sequence[int]) -> int:
    """Fewest frames that CTC needs: one for each label, and a blank between equal ones."""
    return len(labels) + sum(a == b for a, b in pairwise(labels))


def _detail(listed: Listed, decoded: Decoded, form: NormalForm) -> str:
    if decoded.problem:
        return f": {decoded.problem}"
    if decoded.seconds > LONGEST:
        return f": {decoded.seconds:.1f} s"
    lacking = "".join(sorted(form.lacking(listed.text)))
    return f": {lacking}" if lacking else ""


def _digits(listed: Listed) -> bool:
    return any(letter.isdigit() for letter in listed.text)


def seconds_of(spoken: Sequence[Spoken]) -> float:
    """Seconds of audio."""
    return sum(each.samples for each in spoken) / SAMPLE_RATE


def spread(spoken: Sequence[Spoken], seconds: float) -> list[Spoken]:
    """About `seconds` of recordings, at least one, evenly spread over all."""
    count = max(1, round(len(spoken) * min(1.0, seconds / seconds_of(spoken))))
    return [spoken[place * len(spoken) // count] for place in range(count)]


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _left_out(reason: str, names: Sequence[str]) -> str:
    """A sentence on recordings with one problem, with examples."""
    shown = "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
    return f"Left out, {reason}: {counted(len(names), 'recording')} ({shown})."


def _describe_texts(found: Survey, texts: Sequence[str]) -> None:
    form, alphabet, say = NormalForm(found.vocabulary), found.alphabet, found.notes.append
    if alphabet:
        letters = "".join(token for token in alphabet.tokens if len(token) == 1 and token != "|")
        say(f"New vocabulary: {len(letters)} characters ({letters}), case: {alphabet.case}, Unicode form: NFC.")
    else:
        say(f"The vocabulary of the base is kept; case: {form.case}, Unicode form: NFC.")
    changed = sum(text != form(text) for text in texts)
    if changed:
        text = next(text for text in texts if text != form(text))
        say(f"Rewritten: {changed} of {len(texts)} texts, such as {text!r} as {form(text)!r}.")
    for letter, text in (alphabet.rare if alphabet else {}).items():
        say(f"The character {letter!r} is too rare to learn, as in {text!r}: texts with it are left out.")
    symbols = Counter(c for text in texts for c in text if not c.isspace() and not form(c))
    if symbols:
        say(f"Removed from texts, as nobody says them: {' '.join(c for c, _ in symbols.most_common(20))}")
    if any(_right_to_left(text) for text in texts):
        say("Texts run from right to left; they are trained in the order in which they are spoken.")


def _right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)


def _describe_audio(found: Survey, decoded: Sequence[Decoded]) -> None:
    rates = Counter(each.rate for each in decoded if not each.problem)
    stereo = sum(each.channels > 1 for each in decoded)
    for rate, count in sorted(rates.items()):
        if rate != 16_000:
            lost = f"; nothing above {rate // 2000} kHz is in them" if rate < 16_000 else ""
            found.notes.append(f"Resampled to 16,000 Hz: {counted(count, 'recording')} of {rate} Hz{lost}.")
    if stereo:
        found.notes.append(f"Mixed to one channel: {counted(stereo, 'recording')}.")


def _split(spoken: list[Spoken]) -> tuple[list[Spoken], list[Spoken], str]:
    """Training, validation and a sentence: by speakers where there are enough, else by texts."""
    groups: defaultdict[str, list[Spoken]] = defaultdict(list)
    speakers = {each.speaker for each in spoken if each.speaker}
    by_speaker = len(speakers) >= FEWEST_SPEAKERS
    for each in spoken:
        groups[each.speaker if by_speaker else each.text].append(each)
    names = sorted(groups)
    random.Random(SPLIT_SEED).shuffle(names)
    held: list[Spoken] = []
    wanted = min(SPLIT_SECONDS, SPLIT * seconds_of(spoken))
    held_names = 0
    while held_names < len(names) - 1 and seconds_of(held) < wanted:
        held += groups[names[held_names]]
        held_names += 1
    chosen = {id(each) for each in held}
    kind = "speakers" if by_speaker else "texts"
    why = "" if by_speaker else " (the table names too few speakers, so speakers are not kept apart)"
    note = f"Held out for validation: {counted(len(held), 'recording')}, {held_names} of {len(names)} {kind}{why}."
    return [each for each in spoken if id(each) not in chosen], held, note


def _compare(found: Survey) -> None:
    """Notes on a validation table that is not independent of the training."""
    known = {each.speaker for each in found.training if each.speaker}
    shared = sorted(known & {each.speaker for each in found.validation})
    if shared:
        found.notes.append(
            f"Leaking: both tables have {counted(len(shared), 'speaker')} ({', '.join(shared[:5])}), so validation has "
            "fewer errors than new speakers will have."
        )
    if both := {each.path for each in found.training} & {each.path for each in found.validation}:
        found.notes.append(f"Leaking: both tables have {counted(len(both), 'recording')}, so validation means little.")
    texts = {each.text for each in found.training}
    same = sum(each.text in texts for each in found.validation)
    if same:
        found.notes.append(f"Known texts: training has {same} of {len(found.validation)} texts of validation too.")


def _check(found: Survey, listed: int) -> None:
    usable = len(found.training) + len(found.validation)
    if not found.training or not found.validation or 2 * usable < listed:
        reasons = "; ".join(f"{reason}: {len(names)}" for reason, names in found.left_out.items())
        raise TrainingError(
            f"only {usable} of {listed} recordings can be used, with {len(found.training)} for training and "
            f"{len(found.validation)} for validation: {reasons or 'there are too few'}"
        )
    repeated = Counter(each.text for each in found.training)
    text, most = repeated.most_common(1)[0]
    if len(repeated) < len(found.training) / 2:
        found.notes.append(
            f"Few texts: {counted(len(repeated), 'different text')} in {len(found.training)} training recordings (most "
            f"often {text!r}, {most} times); the model will know these sentences better than others."
        )
