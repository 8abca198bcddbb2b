"""What becomes of each of gunicorn's settings with Tarry in front: docs/gunicorn.md has the same table for its users, and a test compares both with
gunicorn's own list."""

from __future__ import annotations

from typing import Any

AS_EVER = frozenset(
    """
    config wsgi_app bind workers worker_class threads worker_connections max_requests max_requests_jitter reload reload_engine
    reload_extra_files spew check_config print_config preload_app sendfile chdir daemon raw_env pidfile worker_tmp_dir umask initgroups
    tmp_upload_dir secure_scheme_headers pythonpath paste raw_paste_global_conf proc_name default_proc_name http_parser
    access_log_format logger_class logconfig logconfig_dict logconfig_json capture_output enable_stdio_inheritance
    disable_redirect_access_to_syslog syslog_addr syslog_prefix syslog_facility statsd_host statsd_prefix dogstatsd_tags
    enable_backlog_metric control_socket control_socket_disable control_socket_mode limit_request_field_size
    on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec pre_request post_request
    child_exit worker_exit nworkers_changed on_exit
    """.split()
)
"""gunicorn does it, for its arbiter and its workers."""

CARRIED = frozenset(
    """
    backlog timeout graceful_timeout keepalive limit_request_line limit_request_fields user group forwarded_allow_ips proxy_protocol
    proxy_allow_ips header_map certfile keyfile ca_certs cert_reqs loglevel errorlog accesslog syslog http2_max_concurrent_streams
    """.split()
)
"""Tarry does it, too or in gunicorn's place."""

WITHOUT_EFFECT = frozenset(
    """
    reuse_port ssl_version suppress_ragged_eofs do_handshake_on_connect http_protocols
    asgi_loop asgi_lifespan asgi_disconnect_grace_period root_path websocket_max_message_size uwsgi_allow_ips
    """.split()
)
"""They concern what Tarry does otherwise, or workers and protocols that cannot be behind it."""

_STRICT = "Tarry refuses such requests, as gunicorn does by default; leave it out"
REFUSED = {
    "protocol": "Tarry speaks HTTP with clients; leave it out",
    "ssl_context": "TLS is Tarry's: name the files in certfile and keyfile, and set what else is needed in a listen section of tarry.conf",
    "ciphers": "Tarry takes those with forward secrecy only; leave it out (tls_min_version in tarry.conf sets the oldest version of TLS)",
    "permit_obsolete_folding": _STRICT,
    "permit_unconventional_http_method": _STRICT,
    "permit_unconventional_http_version": _STRICT,
    "casefold_http_method": _STRICT,
    "strip_header_spaces": _STRICT,
    "tolerate_dangerous_framing": _STRICT,
    "forwarder_headers": "Tarry does not pass SCRIPT_NAME and the like on; set SCRIPT_NAME in the environment, or Django's FORCE_SCRIPT_NAME",
    "http2_cleartext": "HTTP/2 is Tarry's, which takes it in the clear from clients that begin with it; leave it out",
    "http2_initial_window_size": "HTTP/2 is Tarry's; leave it out",
    "http2_max_frame_size": "HTTP/2 is Tarry's; leave it out",
    "http2_max_header_list_size": "HTTP/2 is Tarry's; leave it out, and set header_max in tarry.conf",
    "dirty_apps": "dirty arbiters are not tried with Tarry; leave it out: a call to a model holds no worker",
    **{
        name: "dirty arbiters are not tried with Tarry; leave it out"
        for name in ("dirty_workers", "dirty_timeout", "dirty_threads", "dirty_graceful_timeout", "on_dirty_starting", "dirty_post_fork",
                     "dirty_worker_init", "dirty_worker_exit")
    },
}  # fmt: skip
"""A start with another value than the default ends, with these remedies."""


def refusal(cfg: Any) -> str:
    """Why gunicorn cannot start with Tarry as it is set up; "" if it can."""
    from gunicorn.config import make_settings

    defaults = make_settings()
    for name, remedy in REFUSED.items():
        setting = cfg.settings.get(name)
        if setting is not None and setting.get() != defaults[name].get():
            option = f" ({setting.cli[-1]})" if setting.cli else ""
            return f"the setting {name}{option} cannot be carried over to Tarry: {remedy}"
    return ""


def keeps_access_log(cfg: Any) -> bool:
    """Whether the workers go on writing the access log, because it has a form of the user's own."""
    from gunicorn.config import make_settings

    defaults = make_settings()
    names = ("access_log_format", "logger_class", "logconfig", "logconfig_dict", "logconfig_json")
    return any(name in cfg.settings and cfg.settings[name].get() != defaults[name].get() for name in names)
