"""What stands before every page: the hosts that may be asked for, the origin of what changes something, headers."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import InvalidSetting

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": under it, browsers send "Origin: null" with our own forms, and plain HTTP has no other sign.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PORTS = {"http": 80, "https": 443}


def guarded(inner: ASGIApp, allowed_hosts: str | Sequence[str], origins: Sequence[str]) -> ASGIApp:
    """The app behind the checks. Raises InvalidSetting for a host or an origin that is none."""
    hosts = [allowed_hosts] if isinstance(allowed_hosts, str) else list(allowed_hosts)
    for host in hosts:
        if not _is_host(host):
            allowed = "host names without ports, such as 'ops.example.com' or '*.example.com', or '*' for every host"
            raise InvalidSetting("allowed_hosts", allowed_hosts, allowed)
    for origin in origins:
        if isinstance(origins, str) or _place(origin) is None:
            raise InvalidSetting("origins", origins, "a list such as ['https://ops.example.com']")
    places = frozenset(place for origin in origins if (place := _place(origin)))
    return Headed(TrustedHostMiddleware(SameOrigin(inner, places), hosts, www_redirect=False))


def _is_host(host: object) -> bool:
    if not isinstance(host, str) or not host or "/" in host or "*" in host[1:]:
        return False
    return host.startswith("[") or (":" not in host and (host[0] != "*" or host == "*" or host[1] == "."))


class SameOrigin:
    """Refuses a request that changes something unless one of this app's pages sent it.

    Browsers send ``Sec-Fetch-Site`` to HTTPS and to localhost alone. Where it is absent, the ``Origin`` must have the
    host and port of ``Host``, or be one of ``places``.
    """

    def __init__(self, inner: ASGIApp, places: frozenset[tuple[str, str, int]]) -> None:
        self._inner = inner
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and not self._own(Headers(scope=scope)):
            refused = "Refused: this request does not come from a page of this dashboard (its Origin is another).\n"
            await PlainTextResponse(refused, 403)(scope, receive, send)
            return
        await self._inner(scope, receive, send)

    def _own(self, headers: Headers) -> bool:
        if (site := headers.get("sec-fetch-site")) is not None:
            return site == "same-origin"
        origin = _place(headers.get("origin", ""))
        if origin is None:
            return False
        here = _place(f"{origin[0]}://{headers.get('host', '')}")
        return origin == here or origin in self._places


def _place(origin: object) -> tuple[str, str, int] | None:
    """Scheme, host and port; None for a text that is no origin."""
    if not isinstance(origin, str):
        return None
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname or parts.path or parts.query or parts.username is not None:
        return None
    return parts.scheme, parts.hostname, port or PORTS[parts.scheme]


class Headed:
    """Adds HEADERS to every answer; one that sets its own ``Cache-Control`` keeps it."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._inner(scope, receive, headed)
