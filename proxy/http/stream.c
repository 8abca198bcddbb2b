/* Words for what streams fail with. */
#include "http/stream.h"

const char *stream_strerror(enum stream_error e)
{
    switch (e) {
    case STREAM_FULL:
        return "send buffer full";
    case STREAM_E_RESOLVE:
        return "the name has no address";
    case STREAM_E_CONNECT:
        return "connection refused or unreachable";
    case STREAM_E_CONNECT_TIMEOUT:
        return "connecting took too long";
    case STREAM_E_CERTIFICATE:
        return "the certificate was not accepted";
    case STREAM_E_TLS:
        return "TLS failed";
    case STREAM_E_ALERT:
        return "the service wants a client certificate, or another one (certificate and "
               "private_key)";
    case STREAM_E_PROXY:
        return "the proxy refuses the tunnel";
    case STREAM_E_NO_WAY:
        return "the proxy does not reach the service";
    case STREAM_E_REFUSED:
        return "refused without being processed";
    case STREAM_E_STALE:
        return "a kept connection had been closed";
    case STREAM_E_TERMINATED:
        return "connection reset before the response";
    case STREAM_E_ENDED:
        return "connection closed before the response";
    case STREAM_E_INCOMPLETE:
        return "connection ended within the response";
    case STREAM_E_PROTOCOL:
        return "malformed message";
    case STREAM_E_HEAD_TOO_LARGE:
        return "header section over the limit";
    case STREAM_E_BAD_REQUEST:
        return "malformed request body";
    case STREAM_E_GONE:
        return "client has gone";
    case STREAM_E_TIMEOUT:
        return "client too slow";
    case STREAM_E_MEMORY:
        return "out of memory";
    }
    return "unknown";
}
