"""What we say to servers that want a name and a password."""

from __future__ import annotations

import netrc
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nox_buildstages.indexes.logins import DEFAULT_PORTS, origin_of, strip_logins
from nox_buildstages.model import Login

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """Everything that is known of names and passwords.

    Attributes:
        logins: Where one URL has several, the first of them counts.
        blocked: URLs below which none is sent.
        netrc: A file with names and passwords of hosts; it need not be there.
    """

    logins: tuple[Login, ...] = ()
    blocked: tuple[str, ...] = ()
    netrc: Path | None = None

    def login_for(self, url: str) -> Login | None:
        """Return what to say to a server that is asked for a URL; None for nothing.

        It is that of the URL of the same scheme, host and port that has most of its
        path in common with it; then that of netrc. What the URL itself holds is not
        looked at.
        """
        url = strip_logins(url)
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or any(map(url.startswith, self.blocked)):
            return None
        near = [
            login for login in self.logins if origin_of(login.url) == origin_of(url)
        ]
        found = max(near, key=lambda login: _in_common(login.url, url), default=None)
        if found is not None and found.password is not None:
            return found
        noted = self._noted(parts.hostname or "")
        if noted is None or (found is not None and found.name != noted.name):
            return found
        return noted

    def _noted(self, host: str) -> Login | None:
        """Return what netrc says of a host; nothing where it can't be read."""
        if self.netrc is None:
            return None
        try:
            found = netrc.netrc(self.netrc).authenticators(host)
        except (OSError, UnicodeError, netrc.NetrcParseError):
            return None
        if found is None:
            return None
        return Login(url=host, name=found[0], password=found[2] or None)


def _in_common(one: str, other: str) -> int:
    """Return how many folders the paths of two URLs share."""
    pairs = zip(urlsplit(one).path.split("/"), urlsplit(other).path.split("/"))  # noqa: B905 - to the shorter
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
