"""The app sees the client as if Tarry was not there: the peer's address, what the peer has sent about others, and the scheme by
gunicorn's own rules (forwarded_allow_ips, secure_scheme_headers)."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any, Callable, Iterable, Optional

from ...settings import settings

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class RestoreClient:
    """The outermost layer of the app in a worker. `server` is the first public TCP address, or None."""

    def __init__(self, app: App, cfg: Any, secret: str, server: Optional[tuple[str, int]]) -> None:
        self._app = app
        self._secret = secret
        self._server = server
        allowed = cfg.forwarded_allow_ips
        self._allowed = [allowed] if isinstance(allowed, str) else [str(one) for one in allowed]
        self._schemes = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in cfg.secure_scheme_headers.items()}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not hmac.compare_digest(environ.get("HTTP_TARRY_AUTH", "").encode("latin-1", "replace"), self._secret.encode()):
            start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
        # From here on the app's own secret counts, which need not be the one that was made for this start.
        environ["HTTP_TARRY_AUTH"] = settings.secret
        peer = environ.pop("HTTP_TARRY_PEER", "unix")
        address, _, port = ("", "", "") if peer == "unix" else peer.rpartition(":")
        address = address.strip("[]")
        environ["REMOTE_ADDR"] = address
        environ.pop("REMOTE_PORT", None)
        if port:
            environ["REMOTE_PORT"] = port
        if self._server is not None:
            environ["SERVER_NAME"], environ["SERVER_PORT"] = self._server[0], str(self._server[1])
        scheme = environ.pop("HTTP_TARRY_SCHEME", "http")
        try:
            environ["wsgi.url_scheme"] = self._told_scheme(environ) if self._trusts(address) else scheme
        except ValueError:  # as gunicorn answers them
            start_response("400 Bad Request", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
        environ["wsgi.url_scheme"] = environ["wsgi.url_scheme"] or scheme
        return self._app(environ, start_response)

    def _told_scheme(self, environ: dict[str, Any]) -> str:
        """What a trusted proxy says, or "" if it says nothing. Two that contradict each other are an error."""
        told = {"https" if environ[name] == value else "http" for name, value in self._schemes.items() if name in environ}
        if len(told) > 1:
            raise ValueError("contradictory scheme headers")
        return told.pop() if told else ""

    def _trusts(self, address: str) -> bool:
        """A peer on a unix socket is trusted, as gunicorn does."""
        if not address or "*" in self._allowed:
            return True
        try:
            ip = ipaddress.ip_address(address)
            mapped = getattr(ip, "ipv4_mapped", None)
            return any((mapped or ip) in ipaddress.ip_network(one, strict=False) for one in self._allowed)
        except ValueError:
            return False
