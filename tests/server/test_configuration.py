"""Settings from a file, the environment and flags; every mistake is one sentence that names its place."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest
from xlsr_live.client.cli import cli, run
from xlsr_live.client.options.server import TOKEN_VARIABLE
from xlsr_live.server.configuration import FIELDS, PREFIX, configure, flag
from xlsr_live.server.settings import SECRET, ServerSettings
from xlsr_live.streaming.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.toml"


def test_no_source_gives_the_defaults():
    configured = configure()
    assert configured.settings == ServerSettings()
    assert not configured.sources


def test_flags_override_variables_and_variables_the_file(file: Path):
    file.write_text('port = 1\nhost = "::1"\nmax_sessions = 3\norigins = ["https://a.example", "https://b.example"]\n')
    variables = {"XLSR_LIVE_PORT": "2", "XLSR_LIVE_MAX_SESSIONS": "auto", "HOME": "/x", "XLSR_LIVE_DEBUG": "1"}
    configured = configure(file, variables, {"port": "3", "grace_s": None, "origins": ()})
    assert configured.settings == ServerSettings(
        port=3, host="::1", max_sessions="auto", origins=("https://a.example", "https://b.example")
    )
    assert configured.sources == {
        "port": "--port",
        "host": f"{file}, line 2",
        "max_sessions": "XLSR_LIVE_MAX_SESSIONS",
        "origins": f"{file}, line 4",
    }


def test_the_environment_may_name_the_file_and_lists_have_commas(file: Path):
    file.write_text("port = 9")
    variables = {"XLSR_LIVE_CONFIG": str(file), "XLSR_LIVE_TRUSTED_PROXIES": "10.0.0.1, fd00::/8", "XLSR_LIVE_LM": ""}
    settings = configure(None, variables).settings
    assert settings == ServerSettings(port=9, trusted_proxies=("10.0.0.1", "fd00::/8"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 1\n\nhots = 'x'", "server.toml, line 3: there is no setting 'hots'; did you mean 'host'?"),
        ("port = 70000", "server.toml, line 1: port is 70000: Expected `int` <= 65535"),
        ("# no\nport = '80'", "server.toml, line 2: port is '80': Expected `int`, got `str`"),
        ("max_sessions = 'all'", "line 1: max_sessions is 'all': Invalid enum value 'all'"),
        ("host = '::1'\n[server]\nport = 1", "line 2: there is no setting 'server'"),
        ("token = 5", "line 1: token: Expected"),
        ("port = ", "is not TOML: Invalid value (at end of document)"),
        ("origins = ['https://a.example/x']", "'https://a.example/x' must look like"),
        ("trusted_proxies = ['*']", "'*' is not an address or a network"),
        ("tls_cert = 'x'", "tls_cert and tls_key must be set together"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(file: Path, text: str, message: str):
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        configure(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_with_a_byte_order_mark_is_read(file: Path):
    file.write_text("port = 9\nhost = '::1'\n", encoding="utf-8-sig")
    assert configure(file).settings == ServerSettings(port=9, host="::1")
    file.write_text("port = 9\n", encoding="utf-16")
    with pytest.raises(ConfigError, match=rf"cannot read the configuration {file}: it is UTF-16"):
        configure(file)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("XLSR_LIVE_PORT", "tcp://10.0.0.1:8765", "XLSR_LIVE_PORT: port is 'tcp://10.0.0.1:8765': Expected `int`"),
        ("XLSR_LIVE_LM_PARTIALS", "maybe", "XLSR_LIVE_LM_PARTIALS: lm_partials is 'maybe': Expected `bool`"),
        ("XLSR_LIVE_MAX_SESSION", "3", "XLSR_LIVE_MAX_SESSION: there is no setting 'max_session'"),
        ("XLSR_LIVE_CONFIG", "/nowhere.toml", "cannot read the configuration /nowhere.toml: No such file"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, value: str, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        configure(None, {variable: value})


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in SECRET])
def test_every_setting_is_a_flag_a_variable_and_a_key(name: str, file: Path):
    (option,) = (one for one in cli.commands["serve"].params if one.name == name)
    assert flag(name) in option.opts
    choice = {"device": "cpu", "dtype": "int8", "log_format": "json", "log_level": "error", "lm_partials": "true"}
    choice |= {"vosk_rate": "16000", "wyoming_open": "true", "ray_dashboard": "true"}
    text = choice.get(
        name,
        "https://x.example"
        if name == "origins"
        else "10.0.0.0"
        if "proxies" in name
        else "2000"
        if "bytes" in name
        else "100",
    )
    others = {"tls_key": "k"} if name == "tls_cert" else {"tls_cert": "c"} if name == "tls_key" else {}
    wanted = configure(None, None, others | {name: (text,) if option.multiple else text})
    assert wanted.settings != ServerSettings()
    variables = {PREFIX + key.upper(): value for key, value in {**others, name: text}.items()}
    assert configure(None, variables).settings == wanted.settings
    file.write_text(str(wanted))
    assert configure(file).settings == wanted.settings


def test_the_printed_configuration_is_valid_and_hides_the_secret(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    monkeypatch.setenv("XLSR_LIVE_MODEL", 'a "quoted" näme\t\x7f')
    assert run(["serve", "--print-config", "--port", "0", "--lm-partials", "--origin", "https://a.example"]) == 0
    printed = capsys.readouterr().out
    assert "port = 0  # --port\n" in printed
    assert "# token = (not shown)  # XLSR_LIVE_TOKEN\n" in printed
    assert "s3cret" not in printed
    file.write_text(printed)
    assert configure(file).settings == ServerSettings(
        port=0, lm_partials=True, origins=("https://a.example",), model='a "quoted" näme\t\x7f'
    )


def test_a_later_source_replaces_the_token_or_its_file(file: Path):
    file.write_text('token = "a"')
    assert configure(file, {"XLSR_LIVE_TOKEN_FILE": "x"}).settings == ServerSettings(token_file="x")
    assert configure(None, {"XLSR_LIVE_TOKEN": "b"}, {"token_file": "x"}).settings == ServerSettings(token_file="x")
    file.write_text('token_file = "a"')
    assert configure(file, {"XLSR_LIVE_TOKEN": "b"}).settings == ServerSettings(token="b")


def test_the_token_is_shown_nowhere():
    assert "s3cret" not in repr(ServerSettings(token="s3cret"))
    with pytest.raises(ConfigError) as error:
        configure(None, {"XLSR_LIVE_TOKEN": "s3crét"})
    assert "s3cr" not in str(error.value)
    assert not {option for one in cli.commands["serve"].params for option in one.opts} & {flag(name) for name in SECRET}


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(ServerSettings)])
def test_every_setting_has_a_description(name: str):
    (option,) = (one for one in cli.commands["serve"].params if one.name == name) if name not in SECRET else (None,)
    assert option is None or (isinstance(option, click.Option) and option.help and option.help[0] not in " [")


@pytest.mark.parametrize("name", [name for name in FIELDS if name.endswith("_s") or name.endswith("minute")])
def test_nan_is_refused(name: str):
    with pytest.raises(ConfigError, match=name):
        ServerSettings(**{name: float("nan")})
