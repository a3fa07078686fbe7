"""The configuration: its four layers, where each value came from, and what is said of a wrong one."""

import re
from pathlib import Path

import msgspec
import pytest

from styx import config
from styx.config import KEYS, Config
from styx.errors import InvalidSpec

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.toml"


def flags(**given: object) -> dict[str, tuple[str, object]]:
    return {
        key.replace("__", "."): (f"--{key.rpartition('__')[2]}", value)
        for key, value in given.items()
    }


def values(loaded: config.Loaded) -> dict[str, object]:
    return {key: value for key, value, _ in loaded.items()}


def wrong(*, text: str | None = None, directory: Path, **environ: str) -> InvalidSpec:
    """The refusal of a file with that text, or of those variables."""
    if text is not None:
        (directory / "styx.toml").write_text(text)
    with pytest.raises(InvalidSpec) as caught:
        config.load(environ=environ, directory=directory)
    return caught.value


# --- the example --------------------------------------------------------------------------------------


def example_uncommented() -> str:
    return re.sub(r"^# (\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_as_it_stands_changes_nothing() -> None:
    loaded = config.load(file=EXAMPLE, environ={})
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}


def test_the_example_documents_every_key_with_its_default(tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    file.write_text(example_uncommented())
    loaded = config.load(file=file, environ={})
    assert set(loaded.origins.values()) == {str(file)}, "a key that the example does not have"
    defaults = values(config.load(environ={}, directory=tmp_path))
    said = values(loaded)
    said["home"] = "~/.styx"  # made absolute when it is given
    unset = {key for key, value in defaults.items() if value is None}  # TOML has no word for None
    assert unset == {"agent.cpus", "agent.memory_gib", "agent.gpus"}
    assert {k: v for k, v in said.items() if k not in unset} == {
        k: v for k, v in defaults.items() if k not in unset
    }


def test_the_example_names_every_environment_variable() -> None:
    text = EXAMPLE.read_text()
    assert [name for name in config.ENVIRONMENT if f"${name}" not in text] == []


# --- layers -------------------------------------------------------------------------------------------


def test_nothing_given_is_the_defaults(tmp_path: Path) -> None:
    loaded = config.load(environ={}, directory=tmp_path)
    assert loaded.config == Config()
    assert loaded.file == ""


def test_a_flag_goes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "styx.toml"
    file.write_text('home = "/h"\n[server]\nport = 1\nhost = "::1"\n[logs]\nlevel = "debug"\n')
    environ = {"STYX_SERVER_PORT": "2", "STYX_LOG_LEVEL": "error"}
    loaded = config.load(flags(server__port=3), environ=environ, directory=tmp_path)
    assert loaded.config.server.port == 3
    assert loaded.config.server.host == "::1"
    assert loaded.config.logs.level == "error"
    assert loaded.file == str(file)
    told = {key: origin for key, _, origin in loaded.items() if origin != "default"}
    assert told == {
        "home": str(file),
        "server.port": "--port",
        "server.host": str(file),
        "logs.level": "$STYX_LOG_LEVEL",
    }


def test_a_flag_not_given_is_none(tmp_path: Path) -> None:
    loaded = config.load(flags(server__port=None), environ={}, directory=tmp_path)
    assert loaded.origins["server.port"] == "default"


@pytest.mark.parametrize(("name", "key"), config.ENVIRONMENT.items())
def test_every_variable_reaches_its_key(tmp_path: Path, name: str, key: str) -> None:
    value = {"server.port": "81", "logs.level": "debug"}.get(key, "/x")
    loaded = config.load(environ={name: value}, directory=tmp_path)
    assert loaded.origins[key] == f"${name}"
    assert str(values(loaded)[key]) == value


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    loaded = config.load(environ={"STYX_SERVER_PORT": "", "STYX_CONFIG": ""}, directory=tmp_path)
    assert loaded.config == Config()


def test_the_file_is_the_named_one_then_here_then_the_homes(tmp_path: Path) -> None:
    named, here, home = (
        tmp_path / "named.toml",
        tmp_path / "styx.toml",
        tmp_path / "h" / "config.toml",
    )
    home.parent.mkdir()
    environ = {"STYX_HOME": str(home.parent)}
    home.touch()
    assert config.load(environ=environ, directory=tmp_path).file == str(home)
    here.touch()
    assert config.load(environ=environ, directory=tmp_path).file == str(here)
    named.touch()
    environ["STYX_CONFIG"] = str(named)
    assert config.load(environ=environ, directory=tmp_path).file == str(named)
    assert config.load(file=here, environ=environ, directory=tmp_path).file == str(here)


def test_a_relative_home_is_of_this_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = config.load(environ={"STYX_HOME": "h", "STYX_AGENT_HOME": "a"})
    assert loaded.config.home_path == tmp_path / "h"
    assert loaded.config.agent_home == tmp_path / "a"
    assert loaded.config.token_path == tmp_path / "h" / "token"


def test_every_key_is_told_in_the_order_of_the_model(tmp_path: Path) -> None:
    loaded = config.load(environ={}, directory=tmp_path)
    assert [key for key, _, _ in loaded.items()] == list(KEYS)


# --- refusals -----------------------------------------------------------------------------------------


def test_an_unknown_key_names_the_file_and_the_nearest(tmp_path: Path) -> None:
    error = wrong(text="[server]\nprot = 1\n", directory=tmp_path)
    assert error.message == f"{tmp_path}/styx.toml: no such key 'server.prot'"
    assert error.hint == "did you mean 'server.port'?"


def test_an_unknown_section_even_if_empty(tmp_path: Path) -> None:
    error = wrong(text="[databse]\n", directory=tmp_path)
    assert "no such key 'databse'" in error.message
    assert error.hint == "did you mean 'database'?"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[server]\nport = "8080"', "server.port"),  # text is no number in a file
        ("[server]\nport = 65536", "server.port"),
        ("[server]\nport = true", "server.port"),
        ("[auth]\npeer = 1", "auth.peer"),
        ('[logs]\nlevel = "loud"', "logs.level"),
        ("[agent]\nlabels = {a = 1}", "agent.labels"),
        ("[agent.labels]\na = 1", "agent.labels"),
        ("[scheduler]\nlost_after_s = 0", "scheduler.lost_after_s"),
        ("server = 5", "server"),
        ("[home]", "home"),
    ],
)
def test_a_wrong_value_names_its_key(tmp_path: Path, text: str, key: str) -> None:
    error = wrong(text=text, directory=tmp_path)
    assert [field.path for field in error.errors] == [key]
    assert f"{tmp_path}/styx.toml: " in error.message


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    error = wrong(directory=tmp_path, STYX_SERVER_PORT="http")
    assert error.message.startswith("$STYX_SERVER_PORT: server.port = 'http': ")


def test_a_wrong_secret_is_not_told(tmp_path: Path) -> None:
    error = wrong(text='[auth]\ntoken = ["tell-nobody"]', directory=tmp_path)
    assert "tell-nobody" not in error.message
    assert error.message.startswith(f"{tmp_path}/styx.toml: auth.token = (secret): ")


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    error = wrong(text="[server\n", directory=tmp_path)
    assert re.search(r"styx\.toml: not TOML: .*line 1", error.message)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "styx.toml").write_bytes(b"\xff\xfe")
    assert "not TOML" in wrong(directory=tmp_path).message


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    error = wrong(directory=tmp_path, STYX_CONFIG="/nowhere/styx.toml")
    assert error.message == "/nowhere/styx.toml: No such file or directory"


# --- what else the environment says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "wish"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, None),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colour(environ: dict[str, str], wish: bool | None) -> None:
    assert config.colour_wish(environ) is wish


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Config().home = "x"  # pyright: ignore[reportAttributeAccessIssue]: the point of the test
    assert isinstance(Config(), msgspec.Struct)
