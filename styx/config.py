"""The configuration: TOML and environment in, one frozen `Config` out. The only reader of os.environ.

Precedence: flag > environment > file > default. `config.example.toml` documents every key, and a test
holds it against this model.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import msgspec

from styx.core.spec import Ending
from styx.errors import FieldError, InvalidSpec
from styx.kit.traceparent import cleaned

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]  # 0 lets the kernel choose
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(gt=0)]
Limit = Annotated[int, msgspec.Meta(ge=0)]  # 0 is no limit


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Port = 8080
    url: str = ""  # "" is the local server's; what agent, CLI and SDK talk to, or several by commas
    advertise_url: str = ""  # "" is the listener's; where agents and other replicas reach this one
    allowed_hosts: tuple[str, ...] = ()  # beside the local names: what a Host header may say
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: Count = 16 << 20
    requests_per_token_per_s: Limit = 1_000  # of any kind, twice as many in a burst; 0 is none
    failed_auth_per_minute: Limit = 10  # of one address; 0 is none
    behind_tls_proxy: bool = False
    graceful_stop_s: Seconds = 5.0


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""  # "" is a private Postgres under `home`
    pool_size: Count = 8
    statement_timeout_s: Seconds = 10.0


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    peer: bool = True  # the OS user who runs the server is its administrator on loopback
    token: str = ""  # "" is the local server's token file


class Scheduler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    suspect_after_s: Seconds = 15.0
    lost_after_s: Seconds = 300.0
    redrive_s: Seconds = 5.0
    reserve_after_s: Seconds = (
        30.0  # so long at the head of its queue: an agent is kept free for it
    )
    retry_base_s: Seconds = 10.0
    retry_cap_s: Seconds = 600.0


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""  # "" is generated once and kept
    home: str = ""  # "" is `home`/agent
    cpus: Annotated[float, msgspec.Meta(gt=0)] | None = None  # None is what the machine has
    memory_gib: Annotated[float, msgspec.Meta(gt=0)] | None = None
    gpus: Annotated[int, msgspec.Meta(ge=0)] | None = None
    labels: dict[str, str] = {}
    spool_bytes_per_attempt: Count = 256 << 20
    files_bytes: Count = 4 << 30
    files_kept_s: Seconds = 3_600.0
    allow_hosts: tuple[str, ...] = ()  # whence files are fetched, beside the public internet


class Logs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"  # of server, agent and CLI
    directory: str = ""  # "" is `home`/logs; replicas may share one
    segment_bytes: Count = 256 << 20
    max_attempt_bytes: Count = 1 << 30


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    urls: tuple[str, ...] = ()  # told of every job
    events: tuple[Ending, ...] = (Ending.DONE,)  # of which ends
    secret: str = ""  # whsec_…, several apart by blanks; "" is the one generated in `home`
    allow_hosts: tuple[str, ...] = ()  # names and networks that are not the public internet's
    timeout_s: Seconds = 10.0


class Files(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_bundle_bytes: Count = 1 << 30
    max_total_bytes: Count = 10 << 30


class Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str = ""  # base64 of 32 bytes, several apart by blanks; "" is what `key_file` holds
    key_file: str = ""  # "" is `home`/secret-key, made at the first use beside a private database


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    otlp_endpoint: str = ""  # "" is none; the base address of an OpenTelemetry collector


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    home: str = "~/.styx"
    server: Server = Server()
    database: Database = Database()
    auth: Auth = Auth()
    scheduler: Scheduler = Scheduler()
    agent: AgentConfig = AgentConfig()
    logs: Logs = Logs()
    webhooks: Webhooks = Webhooks()
    files: Files = Files()
    secrets: Secrets = Secrets()
    telemetry: Telemetry = Telemetry()

    @property
    def home_path(self) -> Path:
        return Path(self.home).expanduser()

    @property
    def agent_home(self) -> Path:
        return Path(self.agent.home).expanduser() if self.agent.home else self.home_path / "agent"

    @property
    def logs_path(self) -> Path:
        return (
            Path(self.logs.directory).expanduser()
            if self.logs.directory
            else self.home_path / "logs"
        )

    @property
    def token_path(self) -> Path:
        """The local administrator's token, 0600; made by the server at its first start."""
        return self.home_path / "token"

    @property
    def webhook_secret_path(self) -> Path:
        """What signs notifications where nothing is configured, 0600; made at the first start."""
        return self.home_path / "webhook-secret"

    @property
    def secret_key_path(self) -> Path:
        """What secrets are sealed under where nothing is configured, 0600; made at the first use."""
        return self.home_path / "secret-key"

    @property
    def server_path(self) -> Path:
        """What a running local server says of itself, as JSON: pid, url, started_at."""
        return self.home_path / "server.json"


ENVIRONMENT: Final = {
    "DATABASE_URL": "database.url",
    "STYX_SERVER_HOST": "server.host",
    "STYX_SERVER_PORT": "server.port",
    "STYX_SERVER_URL": "server.url",
    "STYX_TOKEN": "auth.token",
    "STYX_AGENT_ID": "agent.name",
    "STYX_AGENT_HOME": "agent.home",
    "STYX_LOG_LEVEL": "logs.level",
    "STYX_WEBHOOK_SECRET": "webhooks.secret",
    "STYX_SECRETS_KEY": "secrets.key",
    "STYX_SECRETS_KEY_FILE": "secrets.key_file",
    "STYX_OTLP_ENDPOINT": "telemetry.otlp_endpoint",
    "STYX_HOME": "home",
}
SECRETS: Final = frozenset(
    {"auth.token", "database.url", "secrets.key", "webhooks.secret", "webhooks.urls"}
)  # never printed
PATHS: Final = frozenset({"home", "agent.home", "logs.directory", "secrets.key_file"})
DEFAULT: Final = "default"  # the origin of a value that nobody set


class Loaded(msgspec.Struct, frozen=True):
    """A configuration, and for every dotted key where its value came from: `default`, a file's path,
    `$STYX_HOME` or `--port`.
    """

    config: Config
    origins: dict[str, str]
    file: str = ""  # the file that was read, if one was

    def items(self) -> Iterator[tuple[str, object, str]]:
        """Every key with its value and its origin, in the order of the model."""
        for key, value in _flat(cast("dict[str, object]", msgspec.to_builtins(self.config))):
            yield key, value, self.origins[key]


def load(
    flags: Mapping[str, tuple[str, object]] | None = None,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Loaded:
    """Read the configuration of this process.

    `flags` maps a dotted key to (the flag as typed, its value); `file` is one named by a flag. Without
    it the file is $STYX_CONFIG, else styx.toml in `directory`, else config.toml in the home; only a
    named one has to exist. An empty environment variable counts as unset.

    Raises: InvalidSpec, naming the file or variable, the key and what would be right.
    """
    env = {k: v for k, v in (os.environ if environ is None else environ).items() if v}
    given = {key: value for key, value in (flags or {}).items() if value[1] is not None}
    path = file or _find_file(given, env, directory or Path.cwd())
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    if path is not None:
        for key, value in _read(path):
            values[key], origins[key] = value, str(path)
    for name, key in ENVIRONMENT.items():
        if name in env:
            values[key], origins[key] = _checked(key, env[name], f"${name}"), f"${name}"
    for key, (flag, value) in given.items():
        values[key], origins[key] = _checked(key, value, flag), flag
    for key in PATHS & values.keys():
        # A relative path means the directory of this process, not of the ones it starts.
        values[key] = values[key] and str(Path(str(values[key])).expanduser().absolute())
    config = msgspec.convert(_nested(values), Config)
    origins = {key: origins.get(key, DEFAULT) for key in KEYS}
    return Loaded(config, origins, str(path.absolute()) if path else "")


def pass_on(file: Path) -> None:
    """Let the processes that we start read the same file."""
    os.environ["STYX_CONFIG"] = str(file.absolute())


def colour_wish(environ: Mapping[str, str] | None = None) -> bool | None:
    """What the environment says: True forced, False forbidden, None nothing.

    Source: no-color.org, force-color.org.
    """
    env = os.environ if environ is None else environ
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return False if terminal_is_dumb(env) else None


def terminal_is_dumb(environ: Mapping[str, str] | None = None) -> bool:
    """Whether it cannot move its cursor: no line may change in place."""
    return (os.environ if environ is None else environ).get("TERM") == "dumb"


def traceparent(environ: Mapping[str, str] | None = None) -> str:
    """The span in which this process runs, if somebody traces it; "" else."""
    given = (os.environ if environ is None else environ).get("TRACEPARENT", "")
    return cleaned(given)


def wants_traces(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a bug should show its trace: $STYX_DEBUG."""
    return bool((os.environ if environ is None else environ).get("STYX_DEBUG"))


def _types(model: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(model):
        key = prefix + field.name
        kind: Any = field.type
        if isinstance(kind, type(msgspec.Struct)):
            yield from _types(kind, key + ".")
        else:
            yield key, kind


KEYS: Final = dict(_types(Config))  # every dotted key and its type, in the order of the model
SECTIONS: Final = {key.partition(".")[0] for key in KEYS if "." in key}


def _find_file(
    flags: Mapping[str, tuple[str, object]], env: Mapping[str, str], directory: Path
) -> Path | None:
    if "STYX_CONFIG" in env:
        return Path(env["STYX_CONFIG"]).expanduser()
    home = flags["home"][1] if "home" in flags else env.get("STYX_HOME", Config().home)
    candidates = (directory / "styx.toml", Path(str(home)).expanduser() / "config.toml")
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path) -> Iterator[tuple[str, object]]:
    try:
        document = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{path}: not TOML: {error}") from error
    for key, value in _flat(document):
        if key not in KEYS:
            raise _unknown(key, path)
        yield key, _checked(key, value, str(path), strict=True)


def _flat(document: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        key = prefix + name
        if isinstance(value, dict) and key in SECTIONS:
            yield from _flat(cast("dict[str, object]", value), key + ".")
        else:
            yield key, value


def _nested(values: Mapping[str, object]) -> dict[str, object]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return tree


def _checked(key: str, value: object, source: str, *, strict: bool = False) -> object:
    """The value in the key's type; unless `strict`, text may stand for a number or a boolean."""
    try:
        return msgspec.convert(value, KEYS[key], strict=strict)
    except msgspec.ValidationError as error:
        wrong = FieldError(key, str(error))
        shown = "(secret)" if key in SECRETS else repr(value)
        raise InvalidSpec(f"{source}: {key} = {shown}: {error}", wrong) from error


def _unknown(key: str, path: Path) -> InvalidSpec:
    near = difflib.get_close_matches(key, [*KEYS, *SECTIONS], n=1)
    hint = f"did you mean '{near[0]}'?" if near else "config.example.toml documents every key"
    message = f"{path}: no such key '{key}'"
    return InvalidSpec(message, FieldError(key, "no such key"), hint=hint)
