/* The content of the conf file, parsed and checked: plain structs that never change. A reload makes
 * a new snapshot; each exchange holds a reference to the snapshot that it began with.
 *
 * conf/ reads the file, checks it, and knows every option: options.c is the one table from which
 * the parser, the reference page and the man page are made. It does no network I/O and resolves no
 * names. */
#ifndef TARRY_CONF_SNAPSHOT_H
#define TARRY_CONF_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/str.h"

/* An address: HOST:PORT with a numeric host or "localhost", [V6]:PORT or unix:PATH. A listener's
 * may be *:PORT, which is [::]:PORT. A server's HOST may be a name, which is looked up at run time.
 */
struct addr_conf {
    struct str text; /* as written: the key by which listeners and servers are found again after a
                        reload */
    struct sockaddr_storage sa; /* sockaddr_in, sockaddr_in6 or sockaddr_un */
    socklen_t salen;            /* 0: `host` is a name */
    unsigned mode; /* of a unix socket's file, and its group (empty: as it comes); listeners only */
    struct str group;
    bool ipv6_only;  /* [::] takes no IPv4 clients; listeners only */
    struct str host; /* empty unless it is a name; servers only */
    uint16_t port;   /* beside `host` */
};

struct cidr_conf {
    int family; /* AF_INET, AF_INET6; AF_UNIX: the word "unix", peers on unix sockets */
    unsigned char addr[16];
    unsigned bits;
};

enum log_level { LEVEL_ERROR, LEVEL_WARN, LEVEL_INFO, LEVEL_DEBUG };
#define LOG_NLEVELS 4

enum log_target_kind { LOG_TO_NOWHERE, LOG_TO_STDERR, LOG_TO_STDOUT, LOG_TO_FILE, LOG_TO_SYSLOG };

struct log_target {
    enum log_target_kind kind;
    struct str path; /* of LOG_TO_FILE */
};

enum access_format { ACCESS_JSON, ACCESS_COMBINED, ACCESS_LOGFMT };

/* Host names, lower case. */
struct hosts_conf {
    struct str *list;
    size_t n;
};

/* A certificate with its key: paths. */
struct identity_conf {
    struct str name; /* for messages */
    struct str certificate, private_key;
    struct str ocsp_staple; /* empty: none */
    unsigned line;
};

enum client_certificate {
    CLIENT_CERTIFICATE_OFF,
    CLIENT_CERTIFICATE_OPTIONAL,
    CLIENT_CERTIFICATE_REQUIRED
};

/* How to treat a request for a host that the certificate shown does not cover. */
enum misdirected_policy { MISDIRECTED_REFUSE, MISDIRECTED_SERVE };

/* How open WebSockets end when Tarry begins to stop. */
enum tunnel_drain { TUNNEL_DRAIN_WAIT, TUNNEL_DRAIN_CLOSE };

enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };

struct listen_conf {
    struct addr_conf addr;
    struct str certificate, private_key; /* file paths; empty: plain text. Both or neither. */
    struct str ocsp_staple;
    struct identity_conf *identities; /* beside that certificate */
    size_t nidentities;
    enum client_certificate client_certificate;
    struct str client_ca_file; /* set if client_certificate is not off */
    unsigned client_chain_max; /* certificates between the client's and the authority's */
    enum misdirected_policy misdirected;
    enum tls_version tls_min_version;
    bool proxy_protocol;
    uint64_t proxy_protocol_timeout_ms;
    unsigned backlog;
    bool http2;
    unsigned line;
};

struct server_conf {
    struct addr_conf addr;
    unsigned slots;
    unsigned count, first; /* of a path with %d; the snapshot has each server by itself */
    unsigned line;
};

struct pool_conf {
    struct str name;
    struct server_conf *servers;
    size_t nservers;
    size_t queue_max;
    size_t queue_address_share; /* percent of queue_max that one client address may take */
    uint64_t queue_timeout_ms;
    uint64_t connect_timeout_ms;
    uint64_t response_timeout_ms; /* from the last byte of the request to the first of the response,
                                     and between bytes */
    uint64_t abandoned_timeout_ms;  /* how long a worker keeps its slot though nobody waits for it;
                                       0:  not at all */
    uint64_t keep_alive_timeout_ms; /* how long an idle connection to a server is kept */
    bool retry_idempotent; /* a hop-0 GET, HEAD, OPTIONS, PUT or DELETE may go to a second server
                              after the first died */
    struct str secret;     /* contents of secret_file without the line's end; empty: none */
    size_t replay_body_max;
    size_t call_max;
    size_t handoff_max; /* a handoff's whole body, before and after gzip is undone */
    size_t state_max;
    uint64_t spool_max; /* of a response that the client takes more slowly than the worker gives it;
                           beyond, the worker waits */
    size_t max_calls;
    size_t max_hops;
    size_t resume_attempts;
    uint64_t resume_wait_ms;
    size_t notify_attempts;
    uint64_t notify_first_pause_ms;
    uint64_t notify_max_pause_ms;
    uint64_t keep_alive_interval_ms;
    uint64_t exchange_max_ms;
    uint64_t sticky_max_ms;
    uint64_t wait_max_ms;
    uint64_t piece_interval_ms;
    size_t piece_window;
    uint64_t unreachable_first_pause_ms; /* a server that refuses connections is left alone */
    uint64_t unreachable_max_pause_ms;
    uint64_t unreachable_wait_ms;    /* how long all servers may refuse before a request fails */
    bool required_for_ready;         /* /readyz needs a server of it that can be reached */
    uint64_t tunnel_idle_timeout_ms; /* a WebSocket through which nothing goes for so long ends */
    unsigned line;
};

struct header_conf {
    struct str name, value;
    bool unless_present; /* written "?Name: value": a field that the request has already stays */
};

/* The source of a request's key: "header:NAME", "field:PATH" of a JSON body, "prompt", the
 * beginning of the body's first message, "address" and "credential" of the client, or "tenant",
 * whatever the upstream's `tenant` is. */
enum selector_kind {
    SELECTOR_NONE,
    SELECTOR_HEADER,
    SELECTOR_FIELD,
    SELECTOR_PROMPT,
    SELECTOR_ADDRESS,
    SELECTOR_CREDENTIAL,
    SELECTOR_TENANT,
};

struct selector_conf {
    enum selector_kind kind;
    struct str name; /* of the field, lower case, or the path */
};

/* An HTTP proxy on the way to an endpoint (CONNECT). */
struct proxy_conf {
    struct str host; /* lower case; without brackets; empty: there is none */
    uint16_t port;
    struct str authorization; /* the value of Proxy-Authorization; empty: none */
};

/* Where calls of an upstream may go: a service's origin with one key. */
struct endpoint_conf {
    struct str name;   /* of a plain upstream: the upstream's */
    struct str origin; /* normalised: scheme://host[:port], lower case, no default port, no slash at
                          the end */
    bool tls;          /* https */
    struct str host;   /* lower case; without brackets */
    bool ipv6;         /* host is an IPv6 literal */
    uint16_t port;
    struct header_conf *set_header; /* with the upstream's own, unless the name stands here too */
    size_t nset_header;
    unsigned tier;                       /* the lowest that can serve is used */
    unsigned weight;                     /* its share of the tier's calls */
    struct str model;                    /* takes the place of the request's; empty: it stays */
    struct str path_prefix;              /* stands before the request's path; empty: none */
    struct str ca_file;                  /* empty: the system's */
    struct str certificate, private_key; /* that Tarry shows; file paths; both or neither */
    struct proxy_conf proxy;
    struct str proxy_authorization;
    bool http2;
    bool insecure; /* plain http to a public address is allowed */
    /* What its account allows, over all processes; 0: no bound. */
    size_t in_flight;
    size_t requests_per_minute;
    size_t tokens_per_minute;
    unsigned line;
};

/* How the bodies of an upstream's answers are read. */
enum api_choice { API_AUTO, API_OPENAI, API_ANTHROPIC, API_GEMINI, API_NONE };

/* Kinds of error that may send a call to the next tier, as bits. */
enum fallback_kind { FALLBACK_CONTEXT_LENGTH = 1, FALLBACK_CONTENT_FILTER = 2 };

enum { LIMITS_MAX = 8 }; /* of an upstream */

/* How many calls one key may make, over all processes. */
struct limit_conf {
    struct selector_conf key;   /* SELECTOR_NONE: all calls of the upstream together */
    size_t requests_per_minute; /* 0: no bound */
    size_t tokens_per_minute;   /* 0: no bound */
    uint64_t window_ms;         /* over which these two are kept */
    size_t in_flight;           /* 0: no bound */
    unsigned line;
};

/* So many turns in each round of the queue. */
struct weight_conf {
    struct str tenant;
    unsigned weight;
};

/* The policy for calls to one service, and the endpoints that it may use. */
struct upstream_conf {
    struct str name;
    struct endpoint_conf own;        /* what the section itself says of an endpoint */
    struct endpoint_conf *endpoints; /* of a plain upstream: own */
    size_t nendpoints;               /* at least 1 */
    struct limit_conf *limits;
    size_t nlimits;
    struct selector_conf tenant; /* whose turn it is in the queue of calls that have to wait */
    struct weight_conf *tenant_weights;
    size_t ntenant_weights;
    size_t queue_max;         /* calls that wait, in one process */
    size_t queue_tenant_max;  /* of those, the ones of one tenant */
    size_t queue_tenants_max; /* tenants that are told apart; those beyond share a turn */
    uint64_t queue_timeout_ms;
    bool rate_limit_headers;   /* calls wait for what the service says is left */
    struct str *relay_headers; /* lower case */
    size_t nrelay_headers;
    enum api_choice api;
    bool usage;         /* tokens are read from answers */
    bool include_usage; /* chat streams are asked for theirs */
    struct selector_conf affinity;
    bool stateful;               /* what an account keeps is asked of the endpoint that has it */
    struct str home;             /* the endpoint's name; empty: the first one */
    unsigned home_place;         /* of it */
    uint64_t connect_timeout_ms; /* name, TCP and TLS together */
    uint64_t first_byte_timeout_ms;
    uint64_t first_content_timeout_ms; /* from the response's head to its first content */
    uint64_t content_idle_timeout_ms;  /* of an event stream: between two pieces of content */
    uint64_t idle_timeout_ms;  /* between bytes of the response (and while sending the request) */
    bool idle_for_streams;     /* the file sets idle_timeout: it holds for event streams too */
    uint64_t total_timeout_ms; /* until the answer is committed, retries included; of an answer that
                                  is no event stream, until its end */
    uint64_t stream_timeout_ms; /* of a committed event stream, until its end */
    size_t hold_max;            /* bytes of a response that are held until its first content */
    uint64_t hold_timeout_ms;   /* and for how long */
    size_t retries;
    uint64_t retry_first_pause_ms;      /* before the first retry, at most 1 s; doubles */
    uint64_t retry_max_pause_ms;        /* of our own backoff; the service's hint may be longer */
    uint64_t retry_after_max_ms;        /* a longer hint ends the call */
    uint64_t rest_max_ms;               /* of an endpoint, by the service's hint */
    uint64_t retry_unstarted_within_ms; /* an HTTP/1.1 connection that ends this soon was not looked
                                           at */
    uint64_t retry_unsure_within_ms;    /* a failure that may have been billed is tried again if it
                                           came this soon; 0: never */
    uint16_t *retry_on;                 /* statuses that are tried again */
    size_t nretry_on;
    unsigned fallback_on;      /* enum fallback_kind */
    unsigned breaker_failures; /* within the window, for the breaker to open */
    unsigned breaker_rate;     /* percent of the window's calls */
    uint64_t breaker_window_ms;
    uint64_t breaker_pause_ms;
    size_t retry_budget; /* percent: retries for each hundred calls of the window */
    size_t retry_budget_min;
    uint64_t retry_budget_window_ms;
    uint64_t out_pause_ms; /* an endpoint that refuses its key is left alone for so long */
    size_t response_max;
    size_t websockets_max;           /* at a time, of one endpoint */
    uint64_t tunnel_idle_timeout_ms; /* a WebSocket through which nothing goes for so long ends */
    uint64_t tunnel_timeout_ms;      /* and one that stands for so long */
    size_t max_connections;
    size_t streams_per_connection;
    uint64_t streams_recovery_interval_ms;
    uint64_t connection_max_age_ms;
    uint64_t keep_alive_timeout_ms; /* an unused connection is closed after this */
    uint64_t probe_after_ms; /* HTTP/2: a connection that was silent for so long is probed before it
                                is used again */
    uint64_t probe_timeout_ms;
    uint64_t
        ping_interval_ms; /* HTTP/2: a silent connection with calls on it is probed this often */
    uint64_t ping_timeout_ms;
    unsigned line;
};

/* What a route answers by itself, for load balancers and supervisors. */
enum route_health { ROUTE_HEALTH_OFF, ROUTE_HEALTH_LIVE, ROUTE_HEALTH_READY };

struct route_conf {
    struct str prefix; /* "/..." */
    struct str host;   /* lower case; empty: any */
    bool internal;
    bool compress; /* where `compression` has types */
    bool websocket;
    struct hosts_conf websocket_origins; /* with `upstream` only: whose pages may open one, beside
                                            the request's own host */
    bool rewrite_urls;         /* with `upstream`: the service's URLs in answers lead here */
    struct str prefix_rewrite; /* with `upstream`: takes the prefix's place; empty: it stays */
    uint64_t body_max;         /* 0: the root's */
    uint64_t keep_alive_interval_ms; /* with `upstream`: of silent event streams; 0: none */
    enum route_health health;        /* exactly one of these three is set */
    const struct pool_conf *pool;
    const struct upstream_conf *upstream;
    unsigned line;
};

/* Spans to an OpenTelemetry collector. */
struct tracing_conf {
    const struct upstream_conf *upstream; /* NULL: none are made */
    struct str path, service;
    size_t one_in;
    size_t batch_max, buffer_max; /* bytes */
    uint64_t flush_interval_ms, finish_timeout_ms;
};

struct admin_conf {
    struct addr_conf addr;
    bool control;            /* tarryctl may change things over it: a unix socket */
    struct hosts_conf hosts; /* under which browsers may ask, beside local ones */
    unsigned line;
};

/* Content codings (RFC 9110 8.4.1): http/encoding.h says what is done with them. */
enum encoding { ENCODING_IDENTITY, ENCODING_GZIP, ENCODING_BR, ENCODING_ZSTD };
#define ENCODING_COUNT (ENCODING_ZSTD + 1)

struct compression_conf {
    struct str *types;        /* lower case; "text/" stands for all of its kind */
    size_t ntypes;            /* 0: nothing is compressed */
    enum encoding *encodings; /* most wanted first */
    size_t nencodings;
    size_t min_size;   /* shorter bodies go as they are */
    size_t window;     /* of one body; with the level it decides about the memory */
    size_t memory_max; /* of all bodies that are being compressed */
    unsigned gzip_level, brotli_level, zstd_level;
};

/* How to treat a client's field with "_" in its name, which CGI-style environments cannot tell from
 * "-".
 */
enum forwarded_policy { FORWARDED_REPLACE, FORWARDED_PASS };
enum underscore_policy { UNDERSCORE_DROP, UNDERSCORE_REFUSE, UNDERSCORE_PASS };

/* Whether to enter a sandbox of the kernel: if available, never, or refuse to start without it. */
enum sandbox_policy { SANDBOX_AUTO, SANDBOX_OFF, SANDBOX_REQUIRED };

struct conf {
    unsigned refs;
    struct arena arena; /* everything below lives in it */
    struct str file;
    struct str text; /* the whole effective conf, as tarry -T prints it */

    unsigned processes;
    struct str user, group; /* accounts that exist; empty: as started, the user's own */
    bool core_dumps;
    enum sandbox_policy seccomp, landlock;
    struct str env_file; /* "": none; its values are in the options already */
    struct str temp_dir;
    size_t max_connections;
    size_t limit_keys_max;          /* that are counted by, over all upstreams and processes */
    size_t descriptors_reserved;    /* for reloads, logs and the admin listeners */
    size_t address_connections_max; /* client connections of one address; 0: no bound */
    size_t address_newcomers_max; /* of those, the ones that owe their first request; 0: no bound */
    bool address_limit_loopback;  /* both hold for loopback addresses too */
    size_t connection_requests_max; /* requests over one connection; 0: no bound */
    size_t header_max;              /* bytes of a request's or response's header section */
    size_t header_fields_max;       /* fields in it */
    size_t target_max;
    size_t interim_max;        /* 1xx responses of a worker or upstream */
    size_t chunk_line_max;     /* bytes of one chunk extension or trailer */
    size_t chunk_overhead_max; /* of all of a body */
    size_t output_max;         /* queued on one connection before its source is held back */
    size_t admin_connections_max;
    uint64_t admin_timeout_ms; /* for a request's head, and for taking the page */
    uint64_t admin_keep_alive_timeout_ms;
    enum forwarded_policy forwarded_headers;   /* "replace" (default), "pass" */
    enum underscore_policy underscore_headers; /* "drop" (default), "refuse" (400), "pass" */
    uint64_t body_max;
    size_t body_memory_max;         /* of one body, in memory; the rest goes to a file */
    uint64_t header_timeout_ms;     /* for a client to send its whole head */
    uint64_t body_timeout_ms;       /* between two reads of a client's body */
    uint64_t send_timeout_ms;       /* a client that takes no byte for so long is cut off */
    uint64_t body_rate_min;         /* bytes a second of a client's body; 0: any */
    uint64_t send_rate_min;         /* and of what waits for a client to take it */
    uint64_t rate_window_ms;        /* over which both are averages */
    uint64_t linger_timeout_ms;     /* how long is read and dropped after the last byte */
    uint64_t keep_alive_timeout_ms; /* an idle client connection */
    size_t http2_stream_window;     /* bytes of one request's body that are not handed over yet */
    size_t http2_connection_window; /* the same of all requests of a connection */
    size_t http2_streams_max;       /* requests at a time on a connection */
    size_t http2_queue_max;         /* frames that wait for a client that reads none */
    size_t http2_read_ahead_max;    /* bytes that upstreams' streams hold beyond 64 KiB each */
    size_t http2_header_excess;     /* times the limits: a longer head is not read to its end */
    size_t http2_resets_max;        /* the next six: in a burst that refills within the window */
    size_t http2_glitches_max;
    size_t http2_controls_max;
    size_t http2_empty_frames_max;
    size_t http2_window_updates_max;
    size_t http2_tiny_windows_max;
    uint64_t http2_limits_window_ms;
    size_t http2_tiny_window;
    uint64_t http2_early_answer_wait_ms; /* before a request that was answered early is reset */
    uint64_t http2_goaway_wait_ms;       /* for the answer to the notice of a GOAWAY */
    uint64_t http2_unread_timeout_ms;  /* for a client that reads none of what it makes us queue */
    size_t http2_stalled_max;          /* responses at a time that a client takes nothing of */
    uint64_t http2_stalled_timeout_ms; /* for so long */
    uint64_t
        http2_ping_interval_ms; /* a silent connection with requests on it is asked this often */
    uint64_t http2_ping_timeout_ms; /* for its answer, and for its SETTINGS */
    struct cidr_conf *trusted_proxies;
    size_t ntrusted_proxies;
    uint64_t shutdown_timeout_ms;
    enum tunnel_drain websocket_drain;
    uint64_t dns_stale_max_ms;     /* for how long an address serves beyond its TTL */
    uint64_t drain_delay_ms;       /* SIGTERM: listeners stay open for so long */
    bool master_process;           /* a master also where processes is 1 */
    uint64_t upgrade_timeout_ms;   /* how long another binary may take to become ready */
    size_t home_ids_max;           /* ids of responses whose endpoint is remembered */
    size_t verdicts_max;           /* rows of the table that processes share about upstreams */
    uint64_t verdicts_keep_ms;     /* a row that nobody asks for is kept for so long */
    uint64_t restart_max_pause_ms; /* before a process that keeps dying is replaced */
    uint64_t handshake_timeout_ms; /* of TLS, from the accept on */
    unsigned key_updates_max;      /* of one client in a minute, renegotiations included */
    uint64_t session_timeout_ms;
    struct str ticket_secret; /* contents of ticket_key_file; empty: made at the start */
    uint64_t ticket_rotation_ms;

    enum log_level log_level;
    struct log_target log;
    struct log_target access_log; /* LOG_TO_NOWHERE without an access_log section */
    enum access_format access_format;
    size_t log_buffer_max, access_buffer_max; /* bytes of lines that wait for a stalled target */

    struct compression_conf compression;

    struct listen_conf *listens;
    size_t nlistens;
    struct pool_conf *pools;
    size_t npools;
    struct upstream_conf *upstreams;
    size_t nupstreams;
    struct route_conf *routes; /* in the order in which they are tried: with host first, then
                                  longest prefix first */
    size_t nroutes;
    struct admin_conf *admins;
    size_t nadmins;
    struct tracing_conf tracing;
};

struct conf *conf_ref(struct conf *c);

/* The last one frees it. NULL is allowed. */
void conf_unref(struct conf *c);

/* The upstream of which an endpoint's origin is scheme://host:port (port 0: the scheme's), or NULL.
 * Case is ignored. */
const struct upstream_conf *conf_find_origin(
    const struct conf *c, struct str scheme, struct str host, uint16_t port);
const struct upstream_conf *conf_find_upstream(const struct conf *c, struct str name);
const struct pool_conf *conf_find_pool(const struct conf *c, struct str name);

/* The route for a normalised path and a Host without its port (any case; may be empty), or NULL. */
const struct route_conf *conf_find_route(const struct conf *c, struct str host, struct str path);

/* Whether the peer is one of trusted_proxies. */
bool conf_trusts(const struct conf *c, const struct sockaddr *peer);

/* Where process `slot` listens for an admin section: with several processes each has a control
 * socket of its own, whose path ends with its number. `text` holds the address's text. */
enum { CONF_ADDRESS_TEXT_MAX = 160 };
void conf_admin_address(const struct conf *c, const struct admin_conf *a, size_t slot,
    struct addr_conf *out, char text[CONF_ADDRESS_TEXT_MAX]);

#endif
