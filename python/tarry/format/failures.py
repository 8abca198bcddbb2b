"""What it means that Tarry got no response: which of a library's exceptions stands for it."""

from __future__ import annotations

from .message import Answer

REFUSED = "refused"
SLOW_CONNECT = "slow connect"
SLOW = "slow"
TERMINATED = "terminated"

_KINDS = {
    "connection_refused": REFUSED,
    "dns_error": REFUSED,
    "dns_timeout": REFUSED,
    "destination_ip_unroutable": REFUSED,
    "destination_unavailable": REFUSED,
    "tls_certificate_error": REFUSED,
    "tls_protocol_error": REFUSED,
    "tls_alert_received": REFUSED,
    "connection_timeout": SLOW_CONNECT,
    "http_response_timeout": SLOW,
    "connection_read_timeout": SLOW,
    "connection_terminated": TERMINATED,
    "http_protocol_error": TERMINATED,
    "http_response_incomplete": TERMINATED,
}


def kind_of(answer: Answer) -> str:
    """ "" for a response of the upstream's own, and for a failure that no exception says better than the response does."""
    return _KINDS.get(answer.tarry_error, "")
