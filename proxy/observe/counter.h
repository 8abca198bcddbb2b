/* Counters without labels: declared once, with the help text that the metrics page shows. They
 * survive reloads and the death of a process; see metric.h for those with labels. */
#ifndef TARRY_OBSERVE_COUNTER_H
#define TARRY_OBSERVE_COUNTER_H

#include <stdint.h>

/*      id                      name                               help */
#define COUNTERS(X)                                                                                \
    X(CONNECTIONS, "tarry_client_connections_total", "Client connections accepted")                \
    X(CONNECTIONS_REFUSED, "tarry_client_connections_refused_total",                               \
        "Client connections closed on arrival: their address had too many")                        \
    X(CONNECTIONS_USED_UP, "tarry_client_connections_used_up_total",                               \
        "Client connections ended with their last request (connection_requests_max)")              \
    X(CLIENTS_TOO_SLOW, "tarry_clients_too_slow_total",                                            \
        "Clients cut off for being too slow: to begin, to send a request, to take a response")     \
    X(CONNECTIONS_EVICTED, "tarry_client_connections_evicted_total",                               \
        "Idle client connections ended near max_connections to make room")                         \
    X(PROXY_HEADERS_REFUSED, "tarry_proxy_headers_refused_total",                                  \
        "Connections closed because of the PROXY protocol: none, malformed, late or not trusted")  \
    X(TLS_HANDSHAKES, "tarry_tls_handshakes_total", "TLS handshakes with clients completed")       \
    X(TLS_RESUMED, "tarry_tls_resumed_total", "Those among them that resumed a session")           \
    X(TLS_FAILED, "tarry_tls_failed_total",                                                        \
        "TLS handshakes with clients that failed or took too long")                                \
    X(TLS_FLOODS, "tarry_tls_floods_total", "Connections cut because of key_updates_max")          \
    X(REQUESTS, "tarry_requests_total", "Client requests begun")                                   \
    X(REQUESTS_REFUSED, "tarry_requests_refused_total",                                            \
        "Client requests refused as malformed, over a limit or without a route")                   \
    X(VISITS, "tarry_visits_total", "Requests sent to workers")                                    \
    X(QUEUE_REFUSED, "tarry_queue_refused_total",                                                  \
        "Requests refused as the queue for a worker was full, or the wait in it too long")         \
    X(EXCHANGES_TIMED_OUT, "tarry_exchanges_timed_out_total", "Exchanges ended by exchange_max")   \
    X(RESOURCES_SHORT, "tarry_resources_short_total",                                              \
        "Exchanges failed for want of memory or disk")                                             \
    X(VISITS_FAILED, "tarry_visits_failed_total", "Requests to workers that brought no response")  \
    X(ABANDONED, "tarry_visits_abandoned_total",                                                   \
        "Requests given up while a worker was at work on them; the slot stays taken until it is "  \
        "done")                                                                                    \
    X(ABANDONED_CUT, "tarry_visits_abandoned_timeouts_total",                                      \
        "Of those, the ones whose slot was given away after abandoned_timeout")                    \
    X(QUEUE_SHARE, "tarry_queue_share_refused_total",                                              \
        "Requests refused because their address had queue_address_share of a queue")               \
    X(REDELIVERIES, "tarry_redeliveries_total", "Resumes, replays and notifies delivered again")   \
    X(HANDOFFS, "tarry_handoffs_total", "Handoffs accepted from workers")                          \
    X(SUSPENDED, "tarry_suspended_total",                                                          \
        "Handoffs of views that stand still in their process (Tarry-Sticky)")                      \
    X(STICKY_HITS, "tarry_sticky_hits_total",                                                      \
        "Visits that came back to the process that has the run")                                   \
    X(STICKY_MISSES, "tarry_sticky_misses_total",                                                  \
        "Visits that wanted to and went to another: it was gone, or busy for too long")            \
    X(PIECE_VISITS, "tarry_piece_visits_total", "Visits with pieces of answers")                   \
    X(PIECES, "tarry_pieces_total", "Pieces of answers sent to workers")                           \
    X(PIECES_LOST, "tarry_piece_replays_total",                                                    \
        "Runs replayed whole, as the process that had them was gone, busy or without them")        \
    X(WAITS, "tarry_waits_total", "Visits put off by a worker (Tarry-Wait)")                       \
    X(HANDOFFS_REFUSED, "tarry_handoffs_refused_total",                                            \
        "Handoffs that were malformed, forbidden or over a limit")                                 \
    X(CALLS, "tarry_calls_total", "Calls to upstreams begun")                                      \
    X(CALL_RETRIES, "tarry_call_retries_total", "Attempts of calls beyond the first")              \
    X(RETRIES_DENIED, "tarry_retries_denied_total",                                                \
        "Calls that were not made again because the retry budget was used up")                     \
    X(CALLS_FAILED, "tarry_calls_failed_total", "Calls that brought no response")                  \
    X(NOTIFIES_LOST, "tarry_notifies_lost_total", "Notifies that no worker accepted")              \
    X(TUNNELS, "tarry_tunnels_total", "WebSockets that a worker or upstream has agreed to")        \
    X(COMPRESSED, "tarry_compressed_responses_total", "Responses compressed for their clients")    \
    X(COMPRESSION_IN, "tarry_compression_input_bytes_total", "Bytes of bodies before compression") \
    X(COMPRESSION_OUT, "tarry_compression_output_bytes_total", "The same bodies' bytes after it")  \
    X(COMPRESSION_SKIPPED, "tarry_compression_skipped_total",                                      \
        "Responses not compressed as compression's memory_max was in use")                         \
    X(CLIENTS_GONE, "tarry_clients_gone_total",                                                    \
        "Clients that left before their response was complete")                                    \
    X(HTTP2_CONNECTIONS, "tarry_http2_connections_total", "Client connections that spoke HTTP/2")  \
    X(HTTP2_RESETS, "tarry_http2_resets_total", "HTTP/2 streams that clients have reset")          \
    X(HTTP2_GLITCHES, "tarry_http2_glitches_total",                                                \
        "Malformed HTTP/2 frames and requests from clients")                                       \
    X(HTTP2_FLOODS, "tarry_http2_floods_total",                                                    \
        "HTTP/2 connections ended because of what the client kept sending")                        \
    X(MEMORY_SHORT, "tarry_memory_short_total",                                                    \
        "Times that memory ran out and the reserve was needed")                                    \
    X(EXCHANGES_CANCELLED, "tarry_exchanges_cancelled_total",                                      \
        "Requests that an operator has ended (tarryctl cancel)")                                   \
    X(LOG_DROPPED, "tarry_log_dropped_total",                                                      \
        "Lines of both logs dropped because their target did not take them")                       \
    X(TRACES_SENT, "tarry_traces_sent_total", "Exchanges whose spans the collector has taken")     \
    X(TRACES_DROPPED, "tarry_traces_dropped_total",                                                \
        "Exchanges whose spans the collector did not take")                                        \
    X(SERIES_REFUSED, "tarry_metric_series_refused_total",                                         \
        "Metrics not counted because there are too many different labels")                         \
    X(PROCESSES_REPLACED, "tarry_processes_replaced_total",                                        \
        "Serving processes that died and were replaced")                                           \
    X(RELOADS, "tarry_reloads_total", "Confs taken into use by SIGHUP")                            \
    X(RELOADS_FAILED, "tarry_reloads_failed_total", "Confs refused on SIGHUP")

enum counter {
#define COUNTER_ID(id, name, help) COUNTER_##id,
    COUNTERS(COUNTER_ID)
#undef COUNTER_ID
};
#define COUNTER_COUNT (COUNTER_RELOADS_FAILED + 1)

/* Of this process, in the memory that observe/metric.h describes. */
extern uint64_t *counter_values;

static inline void counter_add(enum counter c, uint64_t n)
{
    __atomic_store_n(&counter_values[c], counter_values[c] + n, __ATOMIC_RELAXED);
}

const char *counter_name(enum counter c);
const char *counter_help(enum counter c);

#endif
