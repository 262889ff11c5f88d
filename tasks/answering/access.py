"""Who may use the page: who has its address, with the token in it; and what the page may do.

The token comes once, in the address that is printed, and stays in a cookie that scripts cannot read
and other sites cannot send. A form of another site can send no JSON.
"""

import hmac
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

Next = Callable[[Request], Awaitable[Response]]

MOST = 2**20  # bytes of a request
JSON = "application/json"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_CLOSED = "Open the address that coft has printed; it has a token in it.\n"


class Door:
    """Lets in who has the token.

    Args:
        token: That is in the printed address.
        port: Cookies know hosts, not ports; its name tells this page from another one.
    """

    def __init__(self, token: str, port: int) -> None:
        self._token, self._cookie = token, f"coft-{port}"

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """Answer a request, or refuse it."""
        refused = self._refusal(request)
        response = refused if refused is not None else await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: Request) -> Response | None:
        if self._is_it(request.query_params.get("token", "")):
            return self._entered(request)
        if not self._is_it(request.cookies.get(self._cookie, "")):
            return PlainTextResponse(_CLOSED, 403)
        if request.method not in ("GET", "POST", "HEAD"):
            return PlainTextResponse("expected GET or POST\n", 405)
        return _unfit(request) if request.method == "POST" else None

    def _entered(self, request: Request) -> Response:
        """Keep the token in a cookie, and take it out of the address."""
        response = RedirectResponse(request.url.path, 303)
        response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        return response

    def _is_it(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def _unfit(request: Request) -> Response | None:
    """Refuse a POST that another site could have sent, or that is too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        return PlainTextResponse(f"expected {JSON}\n", 415)
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return PlainTextResponse("sent by another site\n", 403)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST:
        return PlainTextResponse(f"expected at most {MOST} bytes, and their number\n", 413)
    return None


def kept_token(place: str) -> str:
    """Return the token of a page, the same each time: a tab that stayed open can go on.

    It lies in the user's cache, readable to nobody else.

    Args:
        place: What the page is about.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coft" / "pages"
    file = cache / f"{sha256(place.encode()).hexdigest()[:32]}.json"
    try:
        token = json.loads(file.read_text())["token"]
    except (OSError, ValueError, KeyError, TypeError):
        token = None
    if isinstance(token, str) and token:
        return token
    token = secrets.token_urlsafe(24)
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:  # noqa: PTH123
            json.dump({"token": token}, opened)
    except OSError:
        pass  # no home: the next time it is another one
    return token
