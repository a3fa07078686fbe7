"""The server's own keys, under which secrets are sealed: configured, or made in a home with its own database."""

from pathlib import Path
from typing import Final

from styx.config import Config
from styx.errors import Conflict
from styx.kit import envelope, private

_NONE: Final = (
    "give all servers of one database the same key, in secrets.key_file or $STYX_SECRETS_KEY: "
    "openssl rand -base64 32"
)


class MasterKeys:
    """Read when they are first needed."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, *, new: bool) -> str:
        """`new`: nothing is sealed yet, so one may be made. Raises: Conflict."""
        config = self._config
        if config.secrets.key:
            return config.secrets.key
        if config.secrets.key_file:
            return _text(Path(config.secrets.key_file).expanduser())
        path = config.secret_key_path
        if path.exists():
            return _text(path)
        if config.database.url:
            raise Conflict("this server has no key to seal secrets with", hint=_NONE)
        if not new:
            raise Conflict(
                f"{path} is gone, under whose key the secrets are sealed",
                hint="restore it from a backup; or delete all secrets, and set them again",
            )
        text = f"{envelope.new_key()}\n"
        private.write(path, text)
        return text


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise Conflict(f"{path}, the keys of secrets, cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Conflict(f"{path} holds no keys: these are base64") from None
