"""The conf that the arbiter writes for Tarry, from gunicorn's settings. The user's tarry.conf overrides any of it."""

from __future__ import annotations

import ipaddress
import os
import tempfile
from typing import Any, Iterable, NamedTuple, Optional

from .. import origins

# Where load balancers are, when forwarded_allow_ips is "*": every peer's word counts then, but only these are spared the limits
# by address.
PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "::1", "fc00::/7", "fe80::/10")
LEVELS = {"debug": "debug", "info": "info", "warning": "warn", "error": "error", "critical": "error"}
# gunicorn's defaults: an option that nobody has touched leaves Tarry's own.
KEEPALIVE_DEFAULT = 2
STREAMS_DEFAULT = 100
UNDERSCORES = {"refuse": "refuse", "dangerous": "pass"}
"""By gunicorn's header_map, Tarry's underscore_headers; the default of both is "drop"."""


class Site(NamedTuple):
    """What the conf is made of, beside gunicorn's settings."""

    addresses: list[str]  # public ones, as Tarry writes them
    servers: list[str]  # paths of the workers' sockets
    slots: int  # requests that a worker serves at once
    secret_file: str
    access_log: Optional[str]  # gunicorn's accesslog before it was taken over
    override: Optional[str]  # the user's tarry.conf


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'


def text_of(cfg: Any, site: Site) -> str:
    """Raises origins.BadOrigin for a mistake in the environment."""
    lines = [
        "# Written by tarry.gunicorn, and written anew by each reload. Your own options go into tarry.conf.",
        f'shutdown_timeout = "{max(1, int(cfg.graceful_timeout))}s"',
        'forwarded_headers = "pass"',
        f"trusted_proxies = {{ {', '.join(quoted(one) for one in _trusted(cfg))} }}",
        f"temp_dir = {quoted(_temp_dir())}",
        *_limits(cfg),
        *_account(cfg),
        *_logs(cfg, site),
    ]
    for address in site.addresses:
        lines += [f"listen {quoted(address)} {{", *_listen(cfg), "}"]
    lines += ['workers "app" {']
    lines += [f"    server {quoted('unix:' + path)} {{ slots = {site.slots} }}" for path in site.servers]
    lines += [
        f"    secret_file = {quoted(site.secret_file)}",
        f"    response_timeout = \"{f'{int(cfg.timeout) + 5}s' if cfg.timeout else '1d'}\"",
        # Streams that stand in a busy worker wait for it as long as gunicorn lets it be busy: elsewhere they would begin again.
        f"    sticky_max = \"{max(5, int(cfg.timeout or 60))}s\"",
        '    unreachable_first_pause = "10ms"',
        '    unreachable_max_pause = "100ms"',
        '    unreachable_wait = "30s"',
        "}",
        'route "/" { workers = "app" }',
    ]
    lines += [f"upstream {quoted(one.name)} {{ origin = {quoted(one.origin)} }}" for one in origins.all_origins()]
    if site.override:
        lines.append(f"override({quoted(site.override)})")
    return "\n".join(lines) + "\n"


def _trusted(cfg: Any) -> Iterable[str]:
    """Peers that stand for many clients: no limit by address for them, and they may speak the PROXY protocol."""
    given = cfg.forwarded_allow_ips
    allowed = [given] if isinstance(given, str) else [str(one) for one in given]
    if cfg.proxy_protocol and cfg.proxy_protocol != "off":
        also = cfg.proxy_allow_ips
        allowed += [also] if isinstance(also, str) else [str(one) for one in also]
    found = dict.fromkeys(PRIVATE) if "*" in allowed else {}
    for one in allowed:
        try:
            found[str(ipaddress.ip_network(one.strip(), strict=False))] = None
        except ValueError:
            pass  # "*", or a word that gunicorn does not know either
    return [*found, "unix"]


def _temp_dir() -> str:
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()


def _limits(cfg: Any) -> Iterable[str]:
    if cfg.limit_request_fields:
        yield f"header_fields_max = {min(1024, max(8, cfg.limit_request_fields))}"
    if cfg.limit_request_line:
        yield f"target_max = {max(64, cfg.limit_request_line)}"
    if getattr(cfg, "header_map", "drop") in UNDERSCORES:
        yield f"underscore_headers = {quoted(UNDERSCORES[cfg.header_map])}"
    if getattr(cfg, "http2_max_concurrent_streams", STREAMS_DEFAULT) != STREAMS_DEFAULT:
        yield f"http2_max_streams = {min(10000, max(1, cfg.http2_max_concurrent_streams))}"
    if cfg.keepalive and cfg.keepalive != KEEPALIVE_DEFAULT:
        yield f'keep_alive_timeout = "{int(cfg.keepalive)}s"'


def _account(cfg: Any) -> Iterable[str]:
    if os.geteuid() != 0 or not cfg.uid:
        return
    import grp
    import pwd

    yield f"user = {quoted(pwd.getpwuid(cfg.uid).pw_name)}"
    yield f"group = {quoted(grp.getgrgid(cfg.gid).gr_name)}"


def _logs(cfg: Any, site: Site) -> Iterable[str]:
    """To the places of gunicorn's own logs."""
    level = LEVELS.get(str(cfg.loglevel).lower(), "info")
    target = "syslog" if cfg.syslog else _target(cfg.errorlog, "stderr")
    yield f"log {{ level = {quoted(level)} target = {quoted(target)} }}"
    if site.access_log:
        yield f"access_log {{ target = {quoted(_target(site.access_log, 'stdout'))} format = \"combined\" }}"


def _target(path: str, standard: str) -> str:
    return standard if path == "-" else os.path.abspath(path)


def _listen(cfg: Any) -> Iterable[str]:
    yield f"    backlog = {min(65535, max(1, cfg.backlog))}"
    if cfg.proxy_protocol and cfg.proxy_protocol != "off":
        yield "    proxy_protocol = true"
    if not cfg.certfile:
        return
    yield f"    certificate = {quoted(os.path.abspath(cfg.certfile))}"
    yield f"    private_key = {quoted(os.path.abspath(cfg.keyfile or cfg.certfile))}"
    yield '    misdirected = "serve"'
    if cfg.ca_certs and cfg.cert_reqs:
        yield f"    client_ca_file = {quoted(os.path.abspath(cfg.ca_certs))}"
        yield f"    client_certificate = {quoted('required' if int(cfg.cert_reqs) == 2 else 'optional')}"
