"""The configuration: TOML and environment in, one frozen `Config` out. The only reader of os.environ.

Precedence: flag > environment > file > default. `config.example.toml` documents every key, and a test
holds it against this model.
"""

from pathlib import Path

import msgspec


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: int = 8080
    url: str = ""  # "" is the local server's; what agent, CLI and SDK talk to
    allowed_hosts: tuple[str, ...] = ()  # beside the local names: what a Host header may say
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 16 << 20
    behind_tls_proxy: bool = False
    graceful_stop_s: float = 5.0


class Database(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = ""  # "" is a private Postgres under `home`
    pool_size: int = 8
    statement_timeout_s: float = 10.0


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    peer: bool = True  # the OS user who runs the server is its administrator on loopback
    token: str = ""  # "" is the local server's token file


class Scheduler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    suspect_after_s: float = 15.0
    lost_after_s: float = 300.0
    redrive_s: float = 5.0
    reserve_after_s: float = (
        30.0  # a task this long at the head of its queue gets an agent kept free
    )
    retry_base_s: float = 10.0
    retry_cap_s: float = 600.0


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = ""  # "" is generated once and kept
    home: str = ""  # "" is `home`/agent
    cpus: float | None = None  # None is what the machine has
    memory_gib: float | None = None
    gpus: int | None = None
    labels: dict[str, str] = {}
    spool_bytes_per_attempt: int = 256 << 20


class Logs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: str = "info"  # debug, info, warning, error: of server, agent and CLI
    segment_bytes: int = 256 << 20
    max_attempt_bytes: int = 1 << 30


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    home: str = "~/.styx"
    server: Server = Server()
    database: Database = Database()
    auth: Auth = Auth()
    scheduler: Scheduler = Scheduler()
    agent: AgentConfig = AgentConfig()
    logs: Logs = Logs()

    @property
    def home_path(self) -> Path:
        return Path(self.home).expanduser()

    @property
    def agent_home(self) -> Path:
        return Path(self.agent.home).expanduser() if self.agent.home else self.home_path / "agent"

    @property
    def token_path(self) -> Path:
        """The local administrator's token, 0600; made by the server at its first start."""
        return self.home_path / "token"

    @property
    def server_path(self) -> Path:
        """What a running local server says of itself, as JSON: pid, url, started_at."""
        return self.home_path / "server.json"
