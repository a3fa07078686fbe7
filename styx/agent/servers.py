"""Where to look for the server that leads: the operator's URLs in turn, and first where a follower points."""

from styx.agent import websocket
from styx.errors import SetupError
from styx.wire import agent as wire


class Servers:
    """`url` is the one to try now. Whether to wait before is the caller's business, also when pointed on."""

    def __init__(self, urls: str) -> None:
        """`urls` are separated by commas. Raises: SetupError, for one of no use or none at all."""
        self._urls = [url.strip() for url in urls.split(",") if url.strip()] or [urls]
        self._encrypted = all([websocket.parse(url).encrypted for url in self._urls])  # noqa: C419 -- each is checked
        self._at = 0
        self.url = self._urls[0]

    @property
    def alone(self) -> bool:
        """Whether the one at `url` is all that is known."""
        return all(url == self.url for url in self._urls)

    def after(self, bye: wire.Bye, *, opened: bool) -> None:
        """A session has ended. One that was never `opened` was with a server that does not lead, or
        cannot: cut from its database, say, which need not know yet that it is deposed.
        """
        if bye.code == wire.CLOSE_NOT_LEADER:
            self.point(bye.reason)
        elif not opened:
            self.next()

    def next(self) -> None:
        """The one at `url` does not lead, or cannot be reached."""
        self._at = (self._at + 1) % len(self._urls)
        self.url = self._urls[self._at]

    def point(self, leader: str) -> None:
        """A follower names the leader: look there. It is taken at its word, except that the token is
        never shown to an open line when the operator's own URLs are all encrypted.
        """
        try:
            trusted = websocket.parse(leader).encrypted or not self._encrypted
        except SetupError:
            trusted = False
        if trusted and leader != self.url:
            self.url = leader
        else:
            self.next()
