"""urllib3, versions 1.26 and 2, and with it requests, botocore and all else that stands on it.

Patched is the pool's urlopen: above urllib3's own sleeping between retries, below redirects, hooks and cookies of
requests, which work as they are."""

from __future__ import annotations

import functools
import inspect
import sys
from types import ModuleType
from typing import Any, Optional
from urllib.parse import urljoin

from ..format.failures import REFUSED, SLOW, SLOW_CONNECT, TERMINATED, kind_of
from ..format.message import Answer, Call
from ..runs.exchange import outside
from ..runs.intercept import answer_to, wanted
from .plain import plain_response, read_body


def patch(urllib3: ModuleType) -> None:
    pool_class = urllib3.connectionpool.HTTPConnectionPool
    original = pool_class.urlopen
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def urlopen(
        self: Any, method: str, url: str, body: Any = None, headers: Any = None, retries: Any = None, *args: Any, **kw: Any
    ) -> Any:
        target = _absolute(self, url)
        if args or not wanted(target, method):
            return original(self, method, url, body, headers, retries, *args, **kw)
        body, data = read_body(body)
        sent = self.headers if headers is None else headers
        call = Call(
            method.upper(),
            target,
            [(_text(n), _text(v)) for n, v in sent.items()],
            data,
            _timeout(urllib3, self, kw.get("timeout")),
        )
        answer = answer_to(call)
        if answer is None:
            with outside():  # http.client, below, must not ask once more
                return original(self, method, url, body, headers, retries, *args, **kw)
        return _respond(urllib3, self, call, url, answer, sent, retries, kw)

    urlopen.__tarry__ = original  # type: ignore[attr-defined]
    pool_class.urlopen = urlopen


def unpatch(urllib3: ModuleType) -> None:
    pool_class = urllib3.connectionpool.HTTPConnectionPool
    pool_class.urlopen = getattr(pool_class.urlopen, "__tarry__", pool_class.urlopen)


def _absolute(pool: Any, url: str) -> str:
    """A request through an HTTP proxy has the absolute URL already, and the pool is the proxy's."""
    if "://" in url.split("?", 1)[0]:
        return url
    host = f"[{pool.host}]" if ":" in pool.host and not pool.host.startswith("[") else pool.host
    port = f":{pool.port}" if pool.port and pool.port != {"http": 80, "https": 443}[pool.scheme] else ""
    return f"{pool.scheme}://{host}{port}{url}"


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _timeout(urllib3: ModuleType, pool: Any, given: Any) -> Optional[float]:
    """What the caller allows for the response; None where nothing was said."""
    timeout = pool.timeout if given is None or given is getattr(urllib3.util.timeout, "_DEFAULT_TIMEOUT", None) else given
    read = getattr(timeout, "_read", timeout)
    return float(read) if isinstance(read, (int, float)) and read > 0 else None


def _respond(
    urllib3: ModuleType, pool: Any, call: Call, url: str, answer: Answer, headers: Any, retries: Any, kw: dict[str, Any]
) -> Any:
    redirect = kw.get("redirect", True)
    if not isinstance(retries, urllib3.Retry):
        retries = urllib3.Retry.from_int(retries, redirect=redirect, default=pool.retries)
    _raise_failure(urllib3, pool, url, answer, call.method, retries)
    plain = plain_response(answer, call.method)
    # Item by item: a plain mapping would fold several Set-Cookie into one.
    fields = urllib3._collections.HTTPHeaderDict()
    for name, value in answer.as_headers():
        fields.add(name, value)
    known = {
        "request_method": call.method,
        "request_url": url,
        "pool": pool,
        "connection": None,
        **{k: v for k, v in kw.items() if k not in _OF_THE_REQUEST},
    }
    response = urllib3.HTTPResponse(
        body=plain,
        headers=fields,
        status=answer.status,
        version=11,
        reason=answer.reason,
        preload_content=kw.get("preload_content", True),
        decode_content=kw.get("decode_content", True),
        original_response=plain,
        retries=retries,
        **{name: value for name, value in known.items() if name in _accepted(urllib3.HTTPResponse)},
    )
    response.tarry_time = answer.time
    location = redirect and response.get_redirect_location()
    if location:
        return _follow(urllib3, pool, call, url, location, response, headers, retries, kw)
    if retries.is_retry(call.method, answer.status, bool(answer.header("retry-after"))) and retries.raise_on_status:
        # Tarry has tried again already; to do it here would sleep.
        message = urllib3.exceptions.ResponseError.SPECIFIC_ERROR.format(status_code=answer.status)
        raise urllib3.exceptions.MaxRetryError(pool, url, urllib3.exceptions.ResponseError(message))
    return response


@functools.lru_cache(maxsize=8)
def _accepted(response_class: Any) -> frozenset[str]:
    """The keywords that this version's, or this fork's (urllib3-future, under niquests), response takes."""
    parameters = inspect.signature(response_class.__init__).parameters
    return frozenset(name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD)


_OF_THE_REQUEST = (
    "redirect",
    "assert_same_host",
    "timeout",
    "pool_timeout",
    "release_conn",
    "chunked",
    "body_pos",
    "preload_content",
    "decode_content",
)


def _follow(
    urllib3: ModuleType,
    pool: Any,
    call: Call,
    url: str,
    location: str,
    response: Any,
    headers: Any,
    retries: Any,
    kw: dict[str, Any],
) -> Any:
    """What urlopen does about a redirect when no PoolManager or requests above it does."""
    method, body = (call.method, call.body) if response.status != 303 else ("GET", None)
    try:
        retries = retries.increment(method, url, response=response, _pool=pool)
    except urllib3.exceptions.MaxRetryError:
        if retries.raise_on_redirect:
            raise
        return response
    # As urllib3 does: the pool itself checks that the new URL is its own host's.
    return pool.urlopen(method, urljoin(url, location), body, headers, retries, **kw)


def _raise_failure(urllib3: ModuleType, pool: Any, url: str, answer: Answer, method: str, retries: Any) -> None:
    """What Tarry could not reach is to the caller what it would have been without it: the library's own exception, with
    all retries used up."""
    kind = kind_of(answer)
    exceptions = urllib3.exceptions
    text = f"Tarry: {answer.tarry_error}"
    error: Exception
    if kind == REFUSED:
        error = exceptions.NewConnectionError(pool, text)
    elif kind == SLOW_CONNECT:
        error = exceptions.ConnectTimeoutError(pool, text)
    elif kind == SLOW:
        error = exceptions.ReadTimeoutError(pool, url, text)
    elif kind == TERMINATED:
        error = exceptions.ProtocolError(text)
    else:
        return
    while True:
        retries = retries.increment(method, url, error=error, _pool=pool, _stacktrace=sys.exc_info()[2])
