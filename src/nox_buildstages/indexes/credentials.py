"""Names and passwords for requests to servers."""

from __future__ import annotations

import netrc
import sys
from itertools import takewhile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nox_buildstages.indexes.url_secrets import DEFAULT_PORTS, origin_of, strip_logins
from nox_buildstages.model import Login
from nox_buildstages.value import Value

if TYPE_CHECKING:
    from pathlib import Path


class Credentials(Value):
    """All available names and passwords."""

    logins: tuple[Login, ...] = ()  # of several logins for a URL, the first wins
    blocked: tuple[str, ...] = ()  # URLs below which no login is sent
    netrc: Path | None = None  # the file may be missing

    def login_for(self, url: str) -> Login | None:
        """Return the login to send with a request for a URL; None for no login.

        Among the logins for the same scheme, host and port, the login wins whose URL
        has the longest path in common with ``url``. Netrc comes last. A login
        in ``url`` itself is ignored.
        """
        url = strip_logins(url)
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or any(map(url.startswith, self.blocked)):
            return None
        origin = origin_of(url)
        near = [login for login in self.logins if origin_of(login.url) == origin]
        found = max(near, key=lambda it: _common_folders(it.url, url), default=None)
        if found is not None and found.password is not None:
            return found
        noted = self._read_netrc(parts.hostname or "")
        if noted is None or (found is not None and found.name != noted.name):
            return found
        return noted

    def _read_netrc(self, host: str) -> Login | None:
        if self.netrc is None:
            return None
        try:
            entry = netrc.netrc(self.netrc).authenticators(host)
        except (OSError, UnicodeError, netrc.NetrcParseError):
            return None
        if entry is None:
            return None
        name, _, password = entry
        if sys.version_info < (3, 11):  # leaves the quotes around a value
            name, password = (it and it.strip('"') for it in (name, password))
        return Login(url=host, name=name or "", password=password or None)


def _common_folders(one: str, other: str) -> int:
    """Return the number of leading folders shared by the paths of two URLs."""
    pairs = zip(urlsplit(one).path.split("/"), urlsplit(other).path.split("/"))  # noqa: B905 - to the shorter
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
