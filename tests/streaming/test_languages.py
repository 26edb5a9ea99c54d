"""What people write is the checkpoint's own code; what it lacks is refused with a sentence."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xlsr_live.streaming.errors import ConfigError
from xlsr_live.streaming.languages import bcp47, name, resolve, search

MMS = (
    "abp", "azj-script_cyrillic", "azj-script_latin", "cac-dialect_sanmateo", "cac-dialect_sansebastian", "ckb",
    "cmn-script_simplified", "deu", "eng", "fas", "fin", "ind", "kmr-script_arabic", "kmr-script_latin", "nob",
    "por", "spa", "srp-script_cyrillic", "srp-script_latin", "swe", "swh", "tgl", "urd-script_arabic",
    "urd-script_devanagari", "xho", "yue-script_traditional", "zlm",
)  # fmt: skip
ISO_15924 = ("cmn_Hans", "eng_Latn", "srp_Cyrl", "srp_Latn")


@pytest.mark.parametrize(
    ("code", "written"),
    {
        "deu": "de deu ger DE German german Deutsch de-AT de_DE",
        "eng": "en eng en-US en_GB English anglais",
        "cmn-script_simplified": "zh zho chi cmn zh-CN zh-Hans Mandarin Chinese 中文 CMN-script_simplified",
        "yue-script_traditional": "yue Cantonese yue-Hant zh-yue",
        "srp-script_cyrillic": "sr Serbian sr-Cyrl",
        "srp-script_latin": "sr-Latn",
        "azj-script_latin": "az Azerbaijani",
        "urd-script_devanagari": "ur-Deva",
        "nob": "no nb Norwegian",
        "swh": "sw swa swh Swahili",
        "zlm": "ms msa Malay",
        "ind": "id ind Indonesian",
        "fas": "fa per Farsi Persian",
        "tgl": "tl fil Filipino Tagalog",
        "kmr-script_latin": "ku Kurdish kmr",
        "xho": "xh Xhosa",
    }.items(),
)
def test_people_write_a_language_in_many_ways(code: str, written: str):
    assert {word: resolve(word, MMS, "mms") for word in written.split()} == dict.fromkeys(written.split(), code)


def test_scripts_of_iso_15924():
    written = {"zh": "cmn_Hans", "en": "eng_Latn", "sr": "srp_Cyrl", "sr-Latn": "srp_Latn", "eng_latn": "eng_Latn"}
    assert {word: resolve(word, ISO_15924, "m") for word in written} == written


def test_a_language_in_its_only_script():
    assert resolve("sr", ("deu", "srp-script_latin"), "m") == "srp-script_latin"
    with pytest.raises(ConfigError, match=r"did you mean 'srp-script_latin'\?"):
        resolve("sr-Cyrl", ("deu", "srp-script_latin"), "m")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("xxx", "mms has no 'xxx'; it knows 27 languages (`xlsr-live languages --model mms`)"),
        ("xhoo", "mms has no 'xhoo'; did you mean 'xho'? it knows 27 languages"),
        ("zh-TW", "did you mean 'cmn-script_simplified'?"),
        ("", "mms has no ''"),
        ("auto", "mms has no 'auto'"),
        ("x" * 200, "..."),
        ("cac", "'cac' can be 'cac-dialect_sanmateo', 'cac-dialect_sansebastian' of mms: write one of these codes"),
    ],
)
def test_a_language_that_the_checkpoint_lacks_is_refused_with_a_sentence(word: str, sentence: str):
    with pytest.raises(ConfigError) as caught:
        resolve(word, MMS, "mms")
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 250


@given(st.text(max_size=80))
@example("\x00")
@settings(deadline=None)
def test_any_text_gives_a_code_of_the_checkpoint_or_a_refusal(word: str):
    with suppress(ConfigError):
        assert resolve(word, MMS, "mms") in MMS


@pytest.mark.parametrize("code", [*MMS, *ISO_15924])
def test_every_code_has_a_name_and_a_tag_that_leads_back(code: str):
    known = MMS if code in MMS else ISO_15924
    assert resolve(code, known, "m") == code
    assert name(code) != code
    if "dialect" not in code:  # which BCP 47 has no word for
        assert resolve(bcp47(code), known, "m") == code


def test_names_and_tags():
    assert name("cmn-script_simplified") == "Mandarin Chinese (Simplified)"
    assert name("cac-dialect_sanmateo") == "Chuj (sanmateo)"
    assert (bcp47("deu"), bcp47("cmn_Hans"), bcp47("srp-script_latin")) == ("de", "zh-Hans", "sr-Latn")
    assert (name("zzz9"), bcp47("zzz9")) == ("zzz9", "und")  # a code that no standard has


def test_search():
    assert set(search("kurd", MMS)) == {"ckb", "kmr-script_arabic", "kmr-script_latin"}
    assert search("German", MMS) == search("ger", MMS) == search("germann", MMS) == ["deu"]
    assert search("zzz", MMS) == []
