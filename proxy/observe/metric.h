/* Metrics with labels, and the memory of all metrics. A series is one metric with one set of label
 * values; it exists from its first use.
 *
 * With several processes the memory is shared: the master creates it before it forks, each process
 * writes only the cells of its own slot, and a scrape sums all slots. A process that replaces a
 * dead one continues in its slot, so counters never decrease. */
#ifndef TARRY_OBSERVE_METRIC_H
#define TARRY_OBSERVE_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

/* The kind of a metric's cells. SECONDS: a counter of microseconds, printed in seconds. HISTOGRAM:
 * of microseconds, printed in seconds. GAUGE: a level, summed over all processes. MAXIMUM: a level,
 * of which the largest of all processes is printed. */
enum metric_kind { METRIC_COUNTER, METRIC_SECONDS, METRIC_HISTOGRAM, METRIC_GAUGE, METRIC_MAXIMUM };

enum { METRIC_LABELS_MAX = 3 };

/*      id               kind       name                                   labels (names, in the
 * order of the values) */
#define METRICS(X)                                                                                 \
    X(RESPONSES, COUNTER, "tarry_responses_total", ("class"),                                      \
        "Responses to clients, by the class of their status; none: the client got no head")        \
    X(REFUSALS, COUNTER, "tarry_refusals_total", ("reason"),                                       \
        "Requests that Tarry itself answered with an error, by the problem's type")                \
    X(UPSTREAM_CALLS, COUNTER, "tarry_upstream_calls_total", ("upstream", "outcome"),              \
        "Calls that have ended, by upstream and outcome: a status class, or what failed")          \
    X(UPSTREAM_ATTEMPTS, COUNTER, "tarry_upstream_attempts_total",                                 \
        ("upstream", "endpoint", "outcome"),                                                       \
        "Attempts of calls that have ended, by endpoint and outcome")                              \
    X(UPSTREAM_FIRST_CONTENT, HISTOGRAM, "tarry_upstream_first_content_seconds", ("upstream"),     \
        "From the start of a call to the first content of its response")                           \
    X(UPSTREAM_SECONDS, HISTOGRAM, "tarry_upstream_call_seconds", ("upstream"),                    \
        "From the start of a call to its end, retries included")                                   \
    X(UPSTREAM_TOKENS, COUNTER, "tarry_upstream_tokens_total", ("upstream", "kind"),               \
        "Tokens that services have reported, by kind")                                             \
    X(UPSTREAM_TUNNEL_BYTES, COUNTER, "tarry_upstream_tunnel_bytes_total",                         \
        ("upstream", "direction"), "Bytes of WebSockets sent to upstreams and received from them") \
    X(UPSTREAM_QUEUE_SECONDS, HISTOGRAM, "tarry_upstream_queue_wait_seconds", ("upstream"),        \
        "How long attempts of calls waited for their turn under limits")                           \
    X(UPSTREAM_QUEUE_REFUSED, COUNTER, "tarry_upstream_queue_refused_total",                       \
        ("upstream", "reason"),                                                                    \
        "Calls refused as they waited too long, or as too many waited, in all or of one tenant")   \
    X(QUEUE_SECONDS, HISTOGRAM, "tarry_queue_wait_seconds", ("pool"),                              \
        "How long a request waited for free workers, all its visits together")                     \
    X(VISIT_SECONDS, HISTOGRAM, "tarry_visit_seconds", ("pool"),                                   \
        "How long workers were at work on a request, all its visits together")                     \
    X(WORKER_BUSY, SECONDS, "tarry_worker_busy_seconds_total", ("pool"),                           \
        "Time for which workers were at work")                                                     \
    X(PARKED, SECONDS, "tarry_parked_seconds_total", ("pool"),                                     \
        "Time for which requests were parked: with worker_busy, the workers that were saved")      \
    X(CPU, SECONDS, "tarry_cpu_seconds_total", (NULL), "Processor time used")                      \
    X(LOOP_TURN, HISTOGRAM, "tarry_loop_turn_seconds", (NULL),                                     \
        "The longest turn of the event loop in each second: for so long everybody waited")         \
    X(EXCHANGES, GAUGE, "tarry_exchanges", ("state"), "Exchanges in flight, by state")             \
    X(CLIENT_CONNECTIONS, GAUGE, "tarry_client_connections_open", (NULL),                          \
        "Client connections open")                                                                 \
    X(CLIENT_CONNECTIONS_MAX, GAUGE, "tarry_client_connections_max", (NULL),                       \
        "How many there may be: max_connections, or fewer where the descriptors do not suffice")   \
    X(CLIENT_NEWCOMERS, GAUGE, "tarry_client_newcomers", (NULL),                                   \
        "Client connections that owe their first request")                                         \
    X(CLIENT_ADDRESSES, GAUGE, "tarry_client_addresses", (NULL),                                   \
        "Addresses that have a client connection")                                                 \
    X(COMPRESSION_MEMORY, GAUGE, "tarry_compression_memory_bytes", (NULL),                         \
        "Memory of the responses being compressed now")                                            \
    X(COMPRESSION_MEMORY_MAX, GAUGE, "tarry_compression_memory_max_bytes", (NULL),                 \
        "How much that may be")                                                                    \
    X(POOL_SLOTS, GAUGE, "tarry_pool_slots", ("pool", "which"),                                    \
        "Slots of a pool: taken, taken for nobody, and in all")                                    \
    X(POOL_QUEUE, GAUGE, "tarry_pool_queue", ("pool", "which"), "Exchanges that wait for a slot")  \
    X(POOL_QUEUE_MAX, GAUGE, "tarry_pool_queue_max", ("pool"), "How many new ones may wait")       \
    X(POOL_SERVERS, GAUGE, "tarry_pool_servers", ("pool", "which"),                                \
        "Servers of a pool: in all, and left alone because they could not be reached")             \
    X(UPSTREAM_STREAMS, GAUGE, "tarry_upstream_streams", ("upstream"),                             \
        "Attempts that have a stream to an upstream")                                              \
    X(UPSTREAM_CONNECTIONS, GAUGE, "tarry_upstream_connections", ("upstream"),                     \
        "Connections to an upstream")                                                              \
    X(UPSTREAM_WAITING, GAUGE, "tarry_upstream_waiting", ("upstream"),                             \
        "Attempts that wait for a connection to an upstream")                                      \
    X(ENDPOINT_STATE, MAXIMUM, "tarry_endpoint_state", ("upstream", "endpoint", "state"),          \
        "1: the endpoint is in that state, over all processes")                                    \
    X(VERDICTS, MAXIMUM, "tarry_verdicts", (NULL),                                                 \
        "Rows in use of the table that processes share about upstreams")                           \
    X(VERDICTS_MAX, MAXIMUM, "tarry_verdicts_max", (NULL), "How many there may be")                \
    X(UPSTREAM_QUEUE, GAUGE, "tarry_upstream_queue_calls", ("upstream"),                           \
        "Calls that wait for their turn under limits")                                             \
    X(UPSTREAM_TENANTS, GAUGE, "tarry_upstream_queue_tenants", ("upstream"),                       \
        "Tenants that such calls belong to")                                                       \
    X(LIMIT_CALLS, GAUGE, "tarry_limit_calls", (NULL),                                             \
        "Places under limits that calls in flight hold")                                           \
    X(LIMIT_KEYS, MAXIMUM, "tarry_limit_keys", (NULL),                                             \
        "Keys that calls are counted by now, in all processes together; see limit_keys_max")       \
    X(MEMORY, GAUGE, "tarry_resident_memory_bytes", (NULL),                                        \
        "Memory that serving processes have in use")                                               \
    X(DESCRIPTORS, GAUGE, "tarry_open_descriptors", (NULL),                                        \
        "Open file descriptors of serving processes")                                              \
    X(DESCRIPTORS_MAX, GAUGE, "tarry_open_descriptors_max", (NULL), "How many there may be")       \
    X(PROCESSES, GAUGE, "tarry_processes", (NULL), "Serving processes")

enum metric {
#define METRIC_ID(id, kind, name, labels, help) METRIC_##id,
    METRICS(METRIC_ID)
#undef METRIC_ID
};
#define METRIC_COUNT (METRIC_PROCESSES + 1)

/* The values of a metric's labels: metric_add(METRIC_RESPONSES, 1, METRIC_LABELS(STR("2xx"))). */
#define METRIC_LABELS(...)                                                                         \
    (const struct str[METRIC_LABELS_MAX])                                                          \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* Before the first fork: takes `nslots` slots, one for each process, in memory that all of them
 * share: that of the earlier binary (sharedmem.h) if it has the same metrics, so that counters go
 * on over an upgrade, or else new memory. 0, or -1 with errno. Without this call the process uses
 * private memory. */
int metric_share(size_t nslots);

/* From now on this process writes to that slot. */
void metric_use_slot(size_t slot);

/* The slot's process has died: resets its levels to zero. Its counters stay. */
void metric_clear_gauges(size_t slot);

/* Gives back the slots of binaries whose master has ended, and resets their levels to zero. */
void metric_forget_dead(void);

/* For counters and seconds. `labels`: as many values as the metric has labels; NULL where it has
 * none. n may be 0: the series is then shown as 0. A series for which there is no room is counted
 * in tarry_metric_series_refused_total. */
void metric_add(enum metric m, uint64_t n, const struct str *labels);

/* For histograms. */
void metric_observe(enum metric m, uint64_t us, const struct str *labels);

/* For gauges: this process's level. */
void metric_set(enum metric m, uint64_t value, const struct str *labels);

/* Ends a round of metric_set() calls: gauges of this process that were not set in the round become
 * zero, because the objects behind them are gone. */
void metric_sweep_gauges(void);

/* The sum over all processes: of a counter or gauge as it was added, of a histogram the number of
 * observations. 0 if there is no such series. */
uint64_t metric_value(enum metric m, const struct str *labels);

/* The sum over all series and processes of a metric: as metric_value(). */
uint64_t metric_total(enum metric m);

/* Of a histogram: the observations of all its series in each bucket, not added up, and the buckets'
 * upper bounds in microseconds; the last has none. */
enum { METRIC_BUCKETS = 18 };
void metric_histogram(enum metric m, uint64_t out[METRIC_BUCKETS]);
uint64_t metric_bound_us(size_t bucket);

/* All metrics and counters in Prometheus's text format, or in that of OpenMetrics without its end.
 */
void metric_print(struct buf *b, bool openmetrics);

#endif
