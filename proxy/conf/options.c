/* The options. Bounds are there to catch slips (a unit too much, a zero too many) and to keep
 * arithmetic far from overflow. */
#include "conf/options.h"

#include <stdint.h>

#include "base/num.h"
#include "conf/snapshot.h"

#define IN(type, field) offsetof(struct type, field), sizeof(((struct type *)0)->field)

static const char *const level_words[] = { "error", "warn", "info", "debug", NULL };
static const char *const forwarded_words[] = { "replace", "pass", NULL };
static const char *const underscore_words[] = { "drop", "refuse", "pass", NULL };
static const char *const sandbox_words[] = { "auto", "off", "required", NULL };
static const char *const encoding_words[] = { "gzip", "br", "zstd", NULL };
static const char *const client_certificate_words[] = { "off", "optional", "required", NULL };
static const char *const misdirected_words[] = { "refuse", "serve", NULL };
static const char *const drain_words[] = { "wait", "close", NULL };
static const char *const tls_version_words[] = { "1.2", "1.3", NULL };
static const char *const api_words[] = { "auto", "openai", "anthropic", "gemini", "none", NULL };
static const char *const fallback_words[] = { "context_length", "content_filter", NULL };
static const char *const health_words[] = { "off", "live", "ready", NULL };
static const char *const format_words[] = { "json", "combined", "logfmt", NULL };

static const struct opt root_rows[] = {
    { "address_connections_max", OPT_NUMBER, IN(conf, address_connections_max), "0", "0",
        "10000000", OPT_LIVE,
        .help = "How many connections one client address may have (for IPv6: one /64). "
                "Further ones are closed at once. 0: no limit. The limit does not apply to "
                "trusted_proxies, to unix sockets, and to loopback unless "
                "address_limit_loopback says so." },
    { "address_limit_loopback", OPT_BOOL, IN(conf, address_limit_loopback), "false", NULL, NULL,
        OPT_LIVE,
        .help = "Whether address_connections_max and address_newcomers_max apply to loopback "
                "addresses too. Behind those there is usually a proxy or a test on this "
                "machine." },
    { "address_newcomers_max", OPT_NUMBER, IN(conf, address_newcomers_max), "500", "0", "10000000",
        OPT_LIVE,
        .help = "How many of an address's connections may be without a first request, TLS "
                "handshakes included; further ones are closed at once. 0: as many as it likes. "
                "Exempt are the same as from address_connections_max." },
    { "admin_connections_max", OPT_NUMBER, IN(conf, admin_connections_max), "64", "1", "65535",
        OPT_LIVE,
        .help = "How many connections all admin listeners hold together; further ones wait." },
    { "admin_keep_alive_timeout", OPT_DURATION, IN(conf, admin_keep_alive_timeout_ms), "60s", "1ms",
        "1d", OPT_LIVE, .help = "How long a connection to an admin listener may be idle." },
    { "admin_timeout", OPT_DURATION, IN(conf, admin_timeout_ms), "10s", "1ms", "1h", OPT_LIVE,
        .help = "How long a client of an admin listener may take to send its request and to "
                "read the page." },
    { "body_max", OPT_SIZE, IN(conf, body_max), "100M", "0", "1024G", OPT_LIVE,
        .help = "The largest request body that a client may send. A larger one gets 413." },
    { "body_memory_max", OPT_SIZE, IN(conf, body_memory_max), "64K", "4K", "64M", OPT_LIVE,
        .help = "How much of one body is kept in memory; the rest goes to an unlinked file in "
                "temp_dir." },
    { "body_rate_min", OPT_SIZE, IN(conf, body_rate_min), "256", "0", "1G", OPT_LIVE,
        .help = "How many bytes a second a client must send of its body, averaged over "
                "rate_window. A slower client gets 408. 0: only body_timeout applies." },
    { "body_timeout", OPT_DURATION, IN(conf, body_timeout_ms), "60s", "1ms", "1d", OPT_LIVE,
        .help = "How long a client may be silent while it sends its body. Then it gets 408." },
    { "chunk_line_max", OPT_SIZE, IN(conf, chunk_line_max), "4K", "64", "1M", OPT_LIVE,
        .help = "How long one chunk extension or one trailer of a chunked body may be. They "
                "are dropped; a longer one makes the message malformed." },
    { "chunk_overhead_max", OPT_SIZE, IN(conf, chunk_overhead_max), "64K", "64", "1G", OPT_LIVE,
        .help = "How many bytes the chunk extensions and trailers of one body may have together." },
    { "connection_requests_max", OPT_NUMBER, IN(conf, connection_requests_max), "0", "0",
        "10000000", OPT_LIVE,
        .help = "How many requests a client may send over one connection, which ends with the "
                "last. 0: as many as it likes." },
    { "core_dumps", OPT_BOOL, IN(conf, core_dumps), "false", NULL, NULL, OPT_RESTART,
        .help = "Whether a crash may leave a core dump, and whether other processes of the "
                "same user may read Tarry's memory. Both contain keys, prompts and answers." },
    { "descriptors_reserved", OPT_NUMBER, IN(conf, descriptors_reserved), "16", "0", "1024",
        OPT_RESTART,
        .help = "How many file descriptors are kept for reloads, logs and the admin listeners, so "
                "that these work when clients, workers and bodies have taken all others; at most "
                "an eighth of the limit." },
    { "dns_stale_max", OPT_DURATION, IN(conf, dns_stale_max_ms), "1h", "0ms", "30d", OPT_LIVE,
        .help = "For how long the addresses of a name are used beyond their time to live if the "
                "name servers give no others. 0: never." },
    { "drain_delay", OPT_DURATION, IN(conf, drain_delay_ms), "0ms", "0ms", "1h", OPT_LIVE,
        .help = "How long after SIGTERM the listeners stay open and serve as before, while /readyz "
                "of the admin listeners answers 503: time for a load balancer to look elsewhere. "
                "Then shutdown_timeout begins." },
    { "env_file", OPT_FILE, IN(conf, env_file), "", NULL, NULL, OPT_LIVE,
        .help = "A file with NAME=value lines, as for systemd's EnvironmentFile=, whose values "
                "${NAME} takes in the lines below this one. It is read again by each reload, and "
                "its values go before those of Tarry's own environment. So a check (tarry -t) or a "
                "reload from any shell sees the same keys as the service." },
    { "forwarded_headers", OPT_WORD, IN(conf, forwarded_headers), "replace", NULL, NULL, OPT_LIVE,
        .help = "How X-Forwarded-For and similar fields reach the workers. With \"replace\", "
                "Tarry decides by trusted_proxies, and the workers can believe what they get. "
                "With \"pass\", the workers get what the peer sent and decide by Tarry-Peer "
                "(the peer's address and port) and Tarry-Scheme (http or https, as the peer "
                "spoke to Tarry). Limits by address do not depend on this option.",
        .words = forwarded_words },
    { "group", OPT_GROUP, IN(conf, group), "", NULL, NULL, OPT_RESTART,
        .help = "The group to run as, in addition to the groups that list the user. Empty: "
                "the user's own group." },
    { "handshake_timeout", OPT_DURATION, IN(conf, handshake_timeout_ms), "10s", "1ms", "1h",
        OPT_LIVE,
        .help = "How long a client may take for the TLS handshake, from the moment it connects." },
    { "header_fields_max", OPT_NUMBER, IN(conf, header_fields_max), "100", "8", "1024", OPT_LIVE,
        .help = "How many header fields a request or a response may have." },
    { "header_max", OPT_SIZE, IN(conf, header_max), "32K", "256", "1M", OPT_LIVE,
        .help =
            "How long the header section of a request or a response may be. A longer request gets "
            "431." },
    { "header_timeout", OPT_DURATION, IN(conf, header_timeout_ms), "30s", "1ms", "1d", OPT_LIVE,
        .help = "How long a client may take to send a request's whole head, from its first byte." },
    { "home_ids_max", OPT_NUMBER, IN(conf, home_ids_max), "65536", "64", "100000000", OPT_RESTART,
        .help = "How many ids of stored responses are remembered with the endpoint that gave them, "
                "over all processes (8 bytes each); further ones take the places of others." },
    { "http2_connection_window", OPT_SIZE, IN(conf, http2_connection_window), "1M", "64K", "1G",
        OPT_LIVE,
        .help = "HTTP/2: how much of the request bodies of one connection may be on its way at a "
                "time. New connections take it over." },
    { "http2_controls_max", OPT_NUMBER, IN(conf, http2_controls_max), "1000", "10", "1000000",
        OPT_LIVE,
        .help = "HTTP/2: how many PING, SETTINGS and priority frames a client may send in a "
                "burst. The allowance fills up again within 30 seconds. A client that sends "
                "more is disconnected (ENHANCE_YOUR_CALM)." },
    { "http2_early_answer_wait", OPT_DURATION, IN(conf, http2_early_answer_wait_ms), "250ms", "1ms",
        "1m", OPT_LIVE,
        .help = "HTTP/2: how long a client that has its response before its request was complete "
                "may take to end or stop the request by itself, before it is told to "
                "(RST_STREAM). Some clients lose the response when both come at once." },
    { "http2_empty_frames_max", OPT_NUMBER, IN(conf, http2_empty_frames_max), "100", "1", "1000000",
        OPT_LIVE, .help = "HTTP/2: the same for frames that carry nothing and end nothing." },
    { "http2_glitches_max", OPT_NUMBER, IN(conf, http2_glitches_max), "100", "1", "1000000",
        OPT_LIVE,
        .help = "HTTP/2: the same for malformed frames and requests, and requests over a limit." },
    { "http2_goaway_wait", OPT_DURATION, IN(conf, http2_goaway_wait_ms), "1s", "1ms", "1m",
        OPT_LIVE,
        .help = "HTTP/2: how long a client may take to answer the notice that its connection will "
                "end, before it is told which requests are still served; and how long one that is "
                "sent away has to read why." },
    { "http2_header_excess", OPT_NUMBER, IN(conf, http2_header_excess), "64", "1", "10000",
        OPT_LIVE,
        .help = "HTTP/2: how many times header_max and header_fields_max a request's head may have "
                "and still be read to its end, for the answer (431). A longer one is reset." },
    { "http2_limits_window", OPT_DURATION, IN(conf, http2_limits_window_ms), "30s", "1s", "1h",
        OPT_LIVE,
        .help = "HTTP/2: within how long a burst that a client has spent is given back, with "
                "http2_controls_max and the options that refer to it." },
    { "http2_max_streams", OPT_NUMBER, IN(conf, http2_streams_max), "100", "1", "10000", OPT_LIVE,
        .help = "HTTP/2: how many requests a client may have open at a time on one connection. New "
                "connections take it over." },
    { "http2_ping_interval", OPT_DURATION, IN(conf, http2_ping_interval_ms), "60s", "1ms", "1d",
        OPT_LIVE,
        .help =
            "HTTP/2: a client that is silent for so long while it waits for a response is asked "
            "whether it is still there." },
    { "http2_ping_timeout", OPT_DURATION, IN(conf, http2_ping_timeout_ms), "15s", "1ms", "1h",
        OPT_LIVE,
        .help = "HTTP/2: how long a client may take to answer that, and to send and acknowledge "
                "SETTINGS. Then it counts as gone." },
    { "http2_queue_max", OPT_NUMBER, IN(conf, http2_queue_max), "1000", "100", "1000000", OPT_LIVE,
        .help = "HTTP/2: how many frames may wait for a client that does not read. Above, nothing "
                "is read from it either; above five times as many, or after http2_unread_timeout, "
                "its connection ends." },
    { "http2_read_ahead_max", OPT_SIZE, IN(conf, http2_read_ahead_max), "64M", "0", "64G", OPT_LIVE,
        .help = "HTTP/2: how much the responses of all upstreams together may hold unread for "
                "slow clients, beyond 64 KiB each. While some of it is left, a large response "
                "whose client keeps up has a window of 1 MiB." },
    { "http2_resets_max", OPT_NUMBER, IN(conf, http2_resets_max), "100", "1", "1000000", OPT_LIVE,
        .help = "HTTP/2: how many requests a client may take back in a burst, as with "
                "http2_controls_max." },
    { "http2_stalled_max", OPT_NUMBER, IN(conf, http2_stalled_max), "32", "1", "10000", OPT_LIVE,
        .help = "HTTP/2: how many responses at a time a client may leave unread. If it leaves "
                "more of them unread for http2_stalled_timeout, it is disconnected "
                "(ENHANCE_YOUR_CALM). For a single response, send_timeout applies." },
    { "http2_stalled_timeout", OPT_DURATION, IN(conf, http2_stalled_timeout_ms), "4s", "1ms", "1d",
        OPT_LIVE, .help = "HTTP/2: for how long, with http2_stalled_max." },
    { "http2_stream_window", OPT_SIZE, IN(conf, http2_stream_window), "64K", "16K", "1G", OPT_LIVE,
        .help = "HTTP/2: how much of one request's body may be on its way at a time. New "
                "connections take it over." },
    { "http2_tiny_window", OPT_SIZE, IN(conf, http2_tiny_window), "256", "1", "16K", OPT_LIVE,
        .help = "HTTP/2: pieces of a response that are shorter than this, because the client opens "
                "no larger window, count for http2_tiny_windows_max." },
    { "http2_tiny_windows_max", OPT_NUMBER, IN(conf, http2_tiny_windows_max), "100", "1", "1000000",
        OPT_LIVE,
        .help = "HTTP/2: how often in a burst a client may have a response sent in pieces of less "
                "than http2_tiny_window, as with http2_controls_max." },
    { "http2_unread_timeout", OPT_DURATION, IN(conf, http2_unread_timeout_ms), "4s", "1ms", "1d",
        OPT_LIVE,
        .help = "HTTP/2: how long a client that makes Tarry queue more than http2_queue_max frames "
                "may go without reading them." },
    { "http2_window_updates_max", OPT_NUMBER, IN(conf, http2_window_updates_max), "1000", "10",
        "1000000", OPT_LIVE,
        .help = "HTTP/2: how many window updates a client may send in a burst beyond four for each "
                "frame of data that it gets, as with http2_controls_max." },
    { "interim_max", OPT_NUMBER, IN(conf, interim_max), "16", "0", "1000", OPT_LIVE,
        .help = "How many interim responses (1xx) a worker or an upstream may send before the real "
                "one; with more the response is malformed." },
    { "keep_alive_timeout", OPT_DURATION, IN(conf, keep_alive_timeout_ms), "75s", "1ms", "1d",
        OPT_LIVE, .help = "How long a client's connection may be idle between two requests." },
    { "key_updates_max", OPT_NUMBER, IN(conf, key_updates_max), "32", "1", "1000000", OPT_LIVE,
        .help = "How often a client may change its TLS keys, or ask to negotiate anew, in one "
                "minute; a connection on which more of that comes is cut." },
    { "landlock", OPT_WORD, IN(conf, landlock), "auto", NULL, NULL, OPT_RESTART,
        .help = "Whether the kernel restricts access to files (Landlock): Tarry may write "
                "only in temp_dir and in the folders of its logs and unix sockets, may read "
                "only /etc and /usr, and may start no program. The broker process opens other "
                "files that the conf names. \"auto\" uses Landlock where the kernel has it, "
                "\"required\" refuses to start without it.",
        .words = sandbox_words },
    { "limit_keys_max", OPT_NUMBER, IN(conf, limit_keys_max), "4096", "64", "1000000", OPT_RESTART,
        .help = "How many keys of limits are counted apart at a time, in all processes together. "
                "Further keys share counters, and so limits, with each other." },
    { "linger_timeout", OPT_DURATION, IN(conf, linger_timeout_ms), "2s", "0ms", "1h", OPT_LIVE,
        .help = "How long Tarry reads and drops what a client still sends after the last byte "
                "of its response, so that the client can read that response before the "
                "connection ends." },
    { "master_process", OPT_BOOL, IN(conf, master_process), "false", NULL, NULL, OPT_RESTART,
        .help =
            "Whether a process of its own watches the serving one also where processes is 1: it "
            "keeps the listening sockets, and starts another process when that one dies. With "
            "several processes there always is one." },
    { "max_connections", OPT_NUMBER, IN(conf, max_connections), "100000", "1", "10000000", OPT_LIVE,
        .help = "How many client connections one process holds. If there are more, the "
                "connections that have been idle longest between two requests are closed. If "
                "none is idle, new clients wait in the backlog." },
    { "output_max", OPT_SIZE, IN(conf, output_max), "64K", "4K", "16M", OPT_LIVE,
        .help = "How much output may wait in memory on one connection before its source is "
                "paused or the rest is kept in a file." },
    { "processes", OPT_NUMBER, IN(conf, processes), "1", "1", "256", OPT_RESTART,
        .help = "How many processes, each with one event loop. One process serves tens of "
                "thousands of parked requests; more than one is useful only on more than one "
                "core." },
    { "rate_window", OPT_DURATION, IN(conf, rate_window_ms), "60s", "1ms", "1d", OPT_LIVE,
        .help = "Over how long body_rate_min and send_rate_min are averages. Time in which Tarry "
                "holds the client back, or has nothing for it, does not count." },
    { "restart_max_pause", OPT_DURATION, IN(conf, restart_max_pause_ms), "30s", "1s", "1h",
        OPT_LIVE,
        .help =
            "A process that dies is replaced after a second at the earliest; one that dies again "
            "and again after a pause that doubles up to this." },
    { "seccomp", OPT_WORD, IN(conf, seccomp), "auto", NULL, NULL, OPT_RESTART,
        .help = "Whether the kernel restricts system calls (seccomp) to the ones that Tarry "
                "needs.",
        .words = sandbox_words },
    { "send_rate_min", OPT_SIZE, IN(conf, send_rate_min), "256", "0", "1G", OPT_LIVE,
        .help = "How many bytes a second a client must read, averaged over rate_window, while "
                "bytes wait for it. A slower client is cut off. 0: only send_timeout applies." },
    { "send_timeout", OPT_DURATION, IN(conf, send_timeout_ms), "60s", "1ms", "1d", OPT_LIVE,
        .help = "How long a client may take no byte of its response before it is cut off." },
    { "session_timeout", OPT_DURATION, IN(conf, session_timeout_ms), "2h", "1s", "7d", OPT_RESTART,
        .help = "How long a TLS session can be resumed after its handshake. At most 32 times "
                "ticket_rotation." },
    { "shutdown_timeout", OPT_DURATION, IN(conf, shutdown_timeout_ms), "5m", "0ms", "7d", OPT_LIVE,
        .help = "How long SIGTERM waits for what is in flight." },
    { "target_max", OPT_SIZE, IN(conf, target_max), "8K", "64", "1M", OPT_LIVE,
        .help = "How long a request's target (path and query) may be. A longer one gets 414." },
    { "temp_dir", OPT_FOLDER, IN(conf, temp_dir), "/var/tmp", NULL, NULL, OPT_LIVE,
        .help = "Where large bodies are kept. The files have no name and disappear with the "
                "process." },
    { "ticket_key_file", OPT_SECRET, IN(conf, ticket_secret), NULL, NULL, NULL, OPT_LIVE,
        .help = "A file with a secret of at least 32 visible ASCII characters on one line, "
                "from which the keys of TLS session tickets are derived. Use it for several "
                "machines behind one name; their clocks must agree. Without it Tarry makes a "
                "secret at each start, which all its processes share." },
    { "ticket_rotation", OPT_DURATION, IN(conf, ticket_rotation_ms), "1h", "1s", "1d", OPT_RESTART,
        .help = "How often new keys for TLS session tickets come into use. Tickets under earlier "
                "ones are good for session_timeout." },
    { "trusted_proxies", OPT_CIDRS, IN(conf, trusted_proxies), NULL, NULL, NULL, OPT_LIVE,
        .help = "Peers whose X-Forwarded-For, -Proto and -Host, Forwarded and PROXY protocol "
                "are believed: addresses, networks (\"10.0.0.0/8\"), or \"unix\" for peers "
                "that connect over a unix socket. From all other peers these fields are "
                "replaced." },
    { "underscore_headers", OPT_WORD, IN(conf, underscore_headers), "drop", NULL, NULL, OPT_LIVE,
        .help = "What to do with client header fields that have \"_\" in their names, which "
                "CGI-style backends cannot tell from \"-\": \"drop\" removes them, \"refuse\" "
                "answers 400, \"pass\" forwards them except those that would be read as "
                "Tarry's own.",
        .words = underscore_words },
    { "upgrade_timeout", OPT_DURATION, IN(conf, upgrade_timeout_ms), "1m", "1s", "1h", OPT_LIVE,
        .help =
            "How long the binary that SIGUSR2 starts may take to become ready. Then it is ended, "
            "and this one serves on." },
    { "user", OPT_USER, IN(conf, user), "", NULL, NULL, OPT_RESTART,
        .help = "The account to run as. If Tarry is started as root, it binds its listeners "
                "and reads its keys, and then becomes this user for good. Empty: the account "
                "that starts it." },
    { "verdicts_keep", OPT_DURATION, IN(conf, verdicts_keep_ms), "10m", "10s", "30d", OPT_RESTART,
        .help = "How long it is remembered that an endpoint rests, is out or paused, after it has "
                "left the conf, or its key has changed." },
    { "verdicts_max", OPT_NUMBER, IN(conf, verdicts_max), "1024", "64", "65536", OPT_RESTART,
        .help = "How many rows the table has in which all processes share the state of endpoints: "
                "one for each upstream and pool, two for each endpoint, and one for each other key "
                "that it had within verdicts_keep. Beyond it each process goes by what it has seen "
                "itself." },
    { "websocket_drain", OPT_WORD, IN(conf, websocket_drain), "wait", NULL, NULL, OPT_LIVE,
        .words = drain_words,
        .help = "How open WebSockets end when Tarry stops: \"wait\" leaves them until they end by "
                "themselves or shutdown_timeout passes, \"close\" closes them at once. Either way "
                "Tarry closes them with status 1001 (going away), so that clients connect again." },
};

static const struct opt access_log_rows[] = {
    { "buffer_max", OPT_SIZE, IN(conf, access_buffer_max), "1M", "64K", "1G", OPT_LIVE,
        .help = "How many bytes of lines wait in memory for a target that takes none (a pipe that "
                "nobody reads, a full "
                "disk). Further lines are dropped and counted in tarry_log_dropped_total; the log "
                "says how many once "
                "lines are taken again." },
    { "format", OPT_WORD, IN(conf, access_format), "json", NULL, NULL, OPT_LIVE,
        .help = "A JSON object a line, the combined format of other servers, or name=value pairs.",
        .words = format_words },
    { "target", OPT_TARGET, IN(conf, access_log), "stderr", NULL, NULL, OPT_LIVE,
        .help =
            "A file's path, \"stderr\", \"stdout\" or \"syslog\". SIGUSR1 opens the file anew." },
};

static const struct opt log_rows[] = {
    { "buffer_max", OPT_SIZE, IN(conf, log_buffer_max), "1M", "64K", "1G", OPT_LIVE,
        .help = "How many bytes of lines wait in memory for a target that takes none (a pipe that "
                "nobody reads, a full "
                "disk). Further lines are dropped and counted in tarry_log_dropped_total; the log "
                "says how many once "
                "lines are taken again." },
    { "level", OPT_WORD, IN(conf, log_level), "info", NULL, NULL, OPT_LIVE,
        .help =
            "The least important level that is written. At debug, each step of each exchange is a "
            "line.",
        .words = level_words },
    { "target", OPT_TARGET, IN(conf, log), "stderr", NULL, NULL, OPT_LIVE,
        .help =
            "A file's path, \"stderr\", \"stdout\" or \"syslog\". SIGUSR1 opens the file anew." },
};

static const struct opt compression_rows[] = {
    { "brotli_level", OPT_NUMBER, IN(compression_conf, brotli_level), "4", "0", "9", OPT_LIVE,
        .help = "How hard brotli works. Level 1 and above 5 are rarely worth it for what is "
                "compressed once." },
    { "encodings", OPT_ENCODINGS, IN(compression_conf, encodings), "zstd, br, gzip", NULL, NULL,
        OPT_LIVE,
        .help = "Which codings are offered to clients, in order of preference. The order "
                "matters for clients that accept several equally, as browsers do.",
        .words = encoding_words },
    { "gzip_level", OPT_NUMBER, IN(compression_conf, gzip_level), "5", "1", "9", OPT_LIVE,
        .help = "How hard gzip works." },
    { "memory_max", OPT_SIZE, IN(compression_conf, memory_max), "128M", "0", "64G", OPT_LIVE,
        .help = "How much memory all responses that are being compressed may take in one "
                "process. A response that begins when this much is in use is not compressed." },
    { "min_size", OPT_SIZE, IN(compression_conf, min_size), "1K", "0", "1G", OPT_LIVE,
        .help = "Shorter responses go as they are. Those that do not say how long they are count "
                "as long." },
    { "types", OPT_TYPES, IN(compression_conf, types), NULL, NULL, NULL, OPT_LIVE,
        .help = "Media types to compress, such as \"application/json\" or \"text/*\". At "
                "least one. Event streams are never compressed." },
    { "window", OPT_SIZE, IN(compression_conf, window), "128K", "1K", "8M", OPT_LIVE,
        .help = "How far back repetitions are looked for (rounded down to a power of two; gzip "
                "never looks farther "
                "than 32K). More takes more memory: at the default levels and this window about "
                "0.3M a response with gzip, 1M with br, 1.2M with zstd." },
    { "zstd_level", OPT_NUMBER, IN(compression_conf, zstd_level), "2", "1", "12", OPT_LIVE,
        .help = "How hard zstd works. Each level from 3 on takes more memory." },
};

static const struct opt identity_rows[] = {
    { "certificate", OPT_FILE, IN(identity_conf, certificate), NULL, NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the certificate and those between it and the root.",
        .required = true },
    { "ocsp_staple", OPT_FILE, IN(identity_conf, ocsp_staple), "", NULL, NULL, OPT_LIVE,
        .help = "A file with the authority's OCSP response for the certificate (DER), which "
                "clients that ask for it get with the certificate. Something must fetch it and "
                "send SIGHUP; one that is out of date is not sent." },
    { "private_key", OPT_FILE, IN(identity_conf, private_key), NULL, NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the certificate's private key, without a passphrase.",
        .required = true },
};

static const struct opt admin_rows[] = {
    { "control", OPT_BOOL, IN(admin_conf, control), "false", NULL, NULL, OPT_LIVE,
        .help =
            "Whether tarryctl may be used over this address, which must be a unix socket: it "
            "shows the requests in flight, and can drain, pause a pool, end a request. With "
            "several processes each has its own socket, whose name ends with \".0\", \".1\" and "
            "so on." },
    { "group", OPT_GROUP, IN(admin_conf, addr.group), "", NULL, NULL, OPT_RESTART,
        .help = "Of a unix socket: the group of its file. Empty: the group that Tarry runs as." },
    { "hosts", OPT_HOSTS, IN(admin_conf, hosts), NULL, NULL, NULL, OPT_LIVE,
        .help =
            "Names under which the pages may be asked for, beside addresses, names without a dot "
            "and names that exist in local networks only (.localhost, .local, .internal, "
            ".home.arpa, .svc, .cluster.local). A request for another host gets 403: it may come "
            "from a page of a stranger whose name was made to point here (DNS rebinding)." },
    { "mode", OPT_MODE, IN(admin_conf, addr.mode), "0660", NULL, NULL, OPT_RESTART,
        .help = "Of a unix socket: who may connect to it, as the permissions of its file in octal. "
                "Connecting needs the right to write." },
};

static const struct opt listen_rows[] = {
    { "backlog", OPT_NUMBER, IN(listen_conf, backlog), "4096", "1", "65535", OPT_LIVE,
        .help = "How many connections may wait in the kernel until they are accepted "
                "(net.core.somaxconn "
                "bounds it too)." },
    { "certificate", OPT_FILE, IN(listen_conf, certificate), NULL, NULL, NULL, OPT_LIVE,
        .help =
            "The PEM file with the certificate and those between it and the root. With it the "
            "listener "
            "speaks TLS. It is shown to clients that name no site, or one that no identity has." },
    { "client_ca_file", OPT_FILE, IN(listen_conf, client_ca_file), "", NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the authorities (and their revocation lists, if there are any) "
                "that may have signed clients' certificates." },
    { "client_certificate", OPT_WORD, IN(listen_conf, client_certificate), "off", NULL, NULL,
        OPT_LIVE,
        .help = "Whether clients are asked for a certificate. With \"optional\", a "
                "certificate that is shown must be valid; with \"required\", one must be "
                "shown. Otherwise the handshake fails. Workers get the subject as "
                "Tarry-Client-Subject.",
        .words = client_certificate_words },
    { "client_chain_max", OPT_NUMBER, IN(listen_conf, client_chain_max), "2", "0", "16", OPT_LIVE,
        .help = "How many certificates may stand between a client's and that of the authority." },
    { "group", OPT_GROUP, IN(listen_conf, addr.group), "", NULL, NULL, OPT_RESTART,
        .help = "Of a unix socket: the group of its file. Empty: the group that Tarry runs as." },
    { "http2", OPT_BOOL, IN(listen_conf, http2), "true", NULL, NULL, OPT_LIVE,
        .help =
            "HTTP/2 too: over TLS by ALPN, in the clear for clients that begin with its preface "
            "(prior knowledge)." },
    { "ipv6_only", OPT_BOOL, IN(listen_conf, addr.ipv6_only), "false", NULL, NULL, OPT_RESTART,
        .help = "Whether an IPv6 address takes IPv6 clients alone. Otherwise \"[::]:443\" and "
                "\"*:443\" take IPv4 clients too." },
    { "misdirected", OPT_WORD, IN(listen_conf, misdirected), "refuse", NULL, NULL, OPT_LIVE,
        .help = "What to do with a request over TLS for a host that is neither the name in "
                "the handshake nor in the certificate that was shown: \"refuse\" answers 421. "
                "Requests from trusted_proxies are always served.",
        .words = misdirected_words },
    { "mode", OPT_MODE, IN(listen_conf, addr.mode), "0660", NULL, NULL, OPT_RESTART,
        .help = "Of a unix socket: who may connect to it, as the permissions of its file in octal. "
                "Connecting needs the right to write." },
    { "ocsp_staple", OPT_FILE, IN(listen_conf, ocsp_staple), "", NULL, NULL, OPT_LIVE,
        .help = "As in identity, for this certificate." },
    { "private_key", OPT_FILE, IN(listen_conf, private_key), NULL, NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the certificate's private key, without a passphrase." },
    { "proxy_protocol", OPT_BOOL, IN(listen_conf, proxy_protocol), "false", NULL, NULL, OPT_LIVE,
        .help = "Whether each connection begins with the PROXY protocol (version 1 or 2), which "
                "names the client. Then only trusted_proxies may connect." },
    { "proxy_protocol_timeout", OPT_DURATION, IN(listen_conf, proxy_protocol_timeout_ms), "3s",
        "1ms", "1m", OPT_LIVE, .help = "How long the PROXY protocol's header may take." },
    { "tls_min_version", OPT_WORD, IN(listen_conf, tls_min_version), "1.2", NULL, NULL, OPT_LIVE,
        .help = "The oldest version of TLS that clients may speak.", .words = tls_version_words },
};

static const struct opt workers_rows[] = {
    { "abandoned_timeout", OPT_DURATION, IN(pool_conf, abandoned_timeout_ms), "60s", "0ms", "1d",
        OPT_LIVE,
        .help = "How long a worker keeps its slot after its request was given up, for "
                "instance after response_timeout. A sync worker cannot be interrupted: it is "
                "free when its response or its connection ends, and at the latest after this "
                "time. 0: at once." },
    { "call_max", OPT_SIZE, IN(pool_conf, call_max), "32M", "1", "4G", OPT_LIVE,
        .help = "How large one enclosed request of a handoff may be, its head included." },
    { "connect_timeout", OPT_DURATION, IN(pool_conf, connect_timeout_ms), "5s", "1ms", "1h",
        OPT_LIVE, .help = "How long connecting to a server may take." },
    { "exchange_max", OPT_DURATION, IN(pool_conf, exchange_max_ms), "1h", "1ms", "30d", OPT_LIVE,
        .help = "How long one exchange may take in all, its hops, calls and waits included; then "
                "the client gets 504. WebSockets and notifies are not bound by it." },
    { "handoff_max", OPT_SIZE, IN(pool_conf, handoff_max), "128M", "1", "64G", OPT_LIVE,
        .help = "How large a handoff's whole body may be, before and after compression is undone. "
                "Where it "
                "is "
                "not set, never less than call_max and 1M." },
    { "keep_alive_interval", OPT_DURATION, IN(pool_conf, keep_alive_interval_ms), "15s", "1ms",
        "1h", OPT_LIVE,
        .help = "How often a parked client that asked for it (Tarry-Keep-Alive) is sent something "
                "harmless." },
    { "keep_alive_timeout", OPT_DURATION, IN(pool_conf, keep_alive_timeout_ms), "60s", "1ms", "1d",
        OPT_LIVE,
        .help = "How long an idle connection to a server is kept, if the server keeps it. Less "
                "than the "
                "server's own is best." },
    { "max_calls", OPT_NUMBER, IN(pool_conf, max_calls), "64", "1", "1024", OPT_LIVE,
        .help = "How many calls one handoff may make." },
    { "max_hops", OPT_NUMBER, IN(pool_conf, max_hops), "64", "1", "10000", OPT_LIVE,
        .help =
            "How many visits to workers one exchange may make. A handoff at the last of them gets "
            "508." },
    { "notify_attempts", OPT_NUMBER, IN(pool_conf, notify_attempts), "8", "1", "1000", OPT_LIVE,
        .help = "How often a notify is delivered until a worker answers it with 2xx." },
    { "notify_first_pause", OPT_DURATION, IN(pool_conf, notify_first_pause_ms), "1s", "1ms", "1d",
        OPT_LIVE, .help = "The pause before a notify's second delivery; it doubles from there." },
    { "notify_max_pause", OPT_DURATION, IN(pool_conf, notify_max_pause_ms), "10m", "1ms", "7d",
        OPT_LIVE, .help = "The longest pause between two deliveries of a notify." },
    { "piece_interval", OPT_DURATION, IN(pool_conf, piece_interval_ms), "100ms", "0ms", "1h",
        OPT_LIVE,
        .help = "How long after a visit with pieces of answers a server is visited with the next "
                "ones." },
    { "piece_window", OPT_SIZE, IN(pool_conf, piece_window), "256K", "1", "64G", OPT_LIVE,
        .help = "How much of an answer may come that the worker has not been visited with; then "
                "the upstream waits." },
    { "queue_address_share", OPT_NUMBER, IN(pool_conf, queue_address_share), "100", "1", "100",
        OPT_LIVE,
        .help = "How much of queue_max, in percent, requests of one client address may take; its "
                "further ones get 503. Behind trusted_proxies the client is the last address of "
                "X-Forwarded-For that is none of theirs. Exempt are the same addresses as from "
                "address_connections_max." },
    { "queue_max", OPT_NUMBER, IN(pool_conf, queue_max), "10000", "0", "10000000", OPT_LIVE,
        .help = "How many requests may wait for a free worker. Further ones get 503 at once. "
                "Resumes are always admitted." },
    { "queue_timeout", OPT_DURATION, IN(pool_conf, queue_timeout_ms), "30s", "1ms", "1d", OPT_LIVE,
        .help = "How long a request may wait for a free worker before the client gets 503." },
    { "replay_body_max", OPT_SIZE, IN(pool_conf, replay_body_max), "10M", "0", "64G", OPT_LIVE,
        .help = "How large a request body may be so that it is kept for a replay." },
    { "required_for_ready", OPT_BOOL, IN(pool_conf, required_for_ready), "false", NULL, NULL,
        OPT_LIVE,
        .help =
            "Whether /readyz of the admin listeners answers 503 while no server of the pool can "
            "be reached." },
    { "response_timeout", OPT_DURATION, IN(pool_conf, response_timeout_ms), "60s", "1ms", "1d",
        OPT_LIVE,
        .help = "How long a worker may take until the first byte of its response, and between "
                "two bytes. Then the client gets 504." },
    { "resume_attempts", OPT_NUMBER, IN(pool_conf, resume_attempts), "3", "1", "1000", OPT_LIVE,
        .help = "How often a resume or replay is delivered in all when workers die over it." },
    { "resume_wait", OPT_DURATION, IN(pool_conf, resume_wait_ms), "60s", "0ms", "1d", OPT_LIVE,
        .help = "How long a resume waits while no worker can be reached." },
    { "retry_idempotent", OPT_BOOL, IN(pool_conf, retry_idempotent), "false", NULL, NULL, OPT_LIVE,
        .help = "Whether a GET, HEAD, OPTIONS, PUT or DELETE of a client may go to another "
                "worker if the first one died while it worked on it." },
    { "secret_file", OPT_SECRET, IN(pool_conf, secret), NULL, NULL, NULL, OPT_LIVE,
        .help = "A file with a secret of visible ASCII characters on one line. Workers get it "
                "as Tarry-Auth, so that an app can refuse requests that did not come through "
                "Tarry." },
    { "spool_max", OPT_SIZE, IN(pool_conf, spool_max), "1G", "64K", "1024G", OPT_LIVE,
        .help = "How much of a response is kept (in memory, then in a temporary file) for a "
                "client that reads more slowly than the worker writes. Beyond that the worker "
                "waits." },
    { "state_max", OPT_NUMBER, IN(pool_conf, state_max), "8000", "0", "8000", OPT_LIVE,
        .help = "How many bytes Tarry-State may have." },
    { "sticky_max", OPT_DURATION, IN(pool_conf, sticky_max_ms), "5s", "0ms", "1h", OPT_LIVE,
        .help = "How long a visit that wants to come back to the same process (Tarry-Sticky) waits "
                "for it before it goes to another." },
    { "tunnel_idle_timeout", OPT_DURATION, IN(pool_conf, tunnel_idle_timeout_ms), "5m", "1ms", "7d",
        OPT_LIVE,
        .help = "How long a WebSocket may carry no byte in either direction before it is "
                "closed. It should be longer than the interval of pings." },
    { "unreachable_first_pause", OPT_DURATION, IN(pool_conf, unreachable_first_pause_ms), "100ms",
        "1ms", "1h", OPT_LIVE,
        .help = "How long a server that refused a connection is left alone while others of "
                "the pool serve. The pause doubles with each further refusal." },
    { "unreachable_max_pause", OPT_DURATION, IN(pool_conf, unreachable_max_pause_ms), "10s", "1ms",
        "1h", OPT_LIVE, .help = "The longest pause for a server that refuses connections." },
    { "unreachable_wait", OPT_DURATION, IN(pool_conf, unreachable_wait_ms), "0ms", "0ms", "1h",
        OPT_LIVE,
        .help = "How long a request waits while no server of the pool can be reached, because the "
                "workers are being restarted, say. Then, or at once with 0ms, the client gets 502. "
                "The time does not count towards queue_timeout." },
    { "wait_max", OPT_DURATION, IN(pool_conf, wait_max_ms), "60s", "0ms", "1d", OPT_LIVE,
        .help = "How long a worker may have a visit put off (Tarry-Wait)." },
};

static const struct opt server_rows[] = {
    { "count", OPT_NUMBER, IN(server_conf, count), "1", "1", "1024", OPT_LIVE,
        .help = "How many servers there are, each with its slots, where the address is a path "
                "with %d in it: with \"unix:/run/app/%d.sock\" and count = 4, /run/app/0.sock to "
                "/run/app/3.sock." },
    { "first", OPT_NUMBER, IN(server_conf, first), "0", "0", "65535", OPT_LIVE,
        .help = "The number that %d stands for in the first of them." },
    { "slots", OPT_NUMBER, IN(server_conf, slots), "1", "1", "65535", OPT_LIVE,
        .help = "How many requests the server works on at once (gunicorn: workers times "
                "threads). Tarry never gives it more." },
};

static const struct opt endpoint_rows[] = {
    { "ca_file", OPT_FILE, IN(endpoint_conf, ca_file), NULL, NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the authorities that may have signed the endpoint's "
                "certificate. Left out: the upstream's." },
    { "certificate", OPT_FILE, IN(endpoint_conf, certificate), NULL, NULL, NULL, OPT_LIVE,
        .help =
            "The PEM file with the certificate that Tarry shows to the endpoint. Left out, with "
            "private_key: the upstream's." },
    { "http2", OPT_BOOL, IN(endpoint_conf, http2), "true", NULL, NULL, OPT_LIVE,
        .help = "Whether HTTP/2 is offered. Left out: as the upstream says." },
    { "in_flight", OPT_NUMBER, IN(endpoint_conf, in_flight), "0", "0", "10000000", OPT_LIVE,
        .help = "How many calls are in flight at a time with this endpoint's key, in all processes "
                "together; others go to another endpoint, or wait. 0: any number." },
    { "insecure", OPT_BOOL, IN(endpoint_conf, insecure), "false", NULL, NULL, OPT_LIVE,
        .help = "Allows a plain http origin that is neither loopback nor private. Left out: as the "
                "upstream says." },
    { "model", OPT_TEXT, IN(endpoint_conf, model), "", NULL, NULL, OPT_LIVE,
        .help = "The name of the model at this endpoint: it takes the place of the one that the "
                "request names, in its JSON body or, for Gemini, in its path. Empty: the "
                "request's stays." },
    { "origin", OPT_ORIGIN, IN(endpoint_conf, origin), NULL, NULL, NULL, OPT_LIVE,
        .help = "Where calls go: https://HOST or https://HOST:PORT. Plain http is for loopback and "
                "private addresses.",
        .required = true },
    { "path_prefix", OPT_PATH, IN(endpoint_conf, path_prefix), "", NULL, NULL, OPT_LIVE,
        .help = "A path that is put before the request's own at this endpoint, such as "
                "\"/openai\"." },
    { "private_key", OPT_FILE, IN(endpoint_conf, private_key), NULL, NULL, NULL, OPT_LIVE,
        .help = "The PEM file with that certificate's key." },
    { "proxy", OPT_PROXY, IN(endpoint_conf, proxy), NULL, NULL, NULL, OPT_LIVE,
        .help =
            "The HTTP proxy on the way to the endpoint. Left out: the upstream's; \"\": none." },
    { "proxy_authorization", OPT_HIDDEN, IN(endpoint_conf, proxy_authorization), NULL, NULL, NULL,
        OPT_LIVE, .help = "The value of Proxy-Authorization for the endpoint's own proxy." },
    { "requests_per_minute", OPT_NUMBER, IN(endpoint_conf, requests_per_minute), "0", "0",
        "1000000", OPT_LIVE,
        .help = "The same for calls that begin within any minute. 0: any number." },
    { "set_header", OPT_HEADERS, IN(endpoint_conf, set_header), NULL, NULL, NULL, OPT_LIVE,
        .help = "Fields for calls to this endpoint, in addition to the upstream's; the same name "
                "here wins." },
    { "tier", OPT_NUMBER, IN(endpoint_conf, tier), "1", "1", "100", OPT_LIVE,
        .help = "The order of preference: an endpoint of tier 2 gets calls only when none of tier "
                "1 can serve them." },
    { "tokens_per_minute", OPT_NUMBER, IN(endpoint_conf, tokens_per_minute), "0", "0", "4000000000",
        OPT_LIVE,
        .help = "The same for tokens that are used within any minute, by estimate and then by the "
                "reported usage. 0: any number." },
    { "weight", OPT_NUMBER, IN(endpoint_conf, weight), "1", "1", "10000", OPT_LIVE,
        .help = "Its share of the calls among the endpoints of its tier." },
};

static const struct opt limit_rows[] = {
    { "in_flight", OPT_NUMBER, IN(limit_conf, in_flight), "0", "0", "10000000", OPT_LIVE,
        .help = "How many calls of one key are in flight at a time, in all processes together; "
                "further ones wait. 0: any number." },
    { "key", OPT_SELECTOR, IN(limit_conf, key), "", NULL, NULL, OPT_LIVE,
        .help = "Calls are counted by \"header:NAME\" (a field of the request), \"address\" "
                "(the client's), \"credential\" (the key that the request brings along), "
                "\"tenant\" (Tarry-Limit-Key, or the upstream's tenant), or empty for all calls "
                "together." },
    { "requests_per_minute", OPT_NUMBER, IN(limit_conf, requests_per_minute), "0", "0", "1000000",
        OPT_LIVE,
        .help = "How many calls of one key begin within any minute, in all processes together, "
                "retries included; further ones wait. 0: any number." },
    { "tokens_per_minute", OPT_NUMBER, IN(limit_conf, tokens_per_minute), "0", "0", "4000000000",
        OPT_LIVE,
        .help = "How many tokens calls of one key use within any minute, in all processes "
                "together. A call counts with an estimate (a quarter of the bytes of its body, and "
                "the output limit that it asks for), and once it is answered with the usage that "
                "the service reports. 0: any number." },
    { "window", OPT_DURATION, IN(limit_conf, window_ms), "1m", "1s", "1m", OPT_LIVE,
        .help = "The time over which the two rates are kept: with \"1s\", requests_per_minute = "
                "600 lets 10 calls begin in any second." },
};

static const struct opt upstream_rows[] = {
    { "affinity", OPT_SELECTOR, IN(upstream_conf, affinity), "", NULL, NULL, OPT_LIVE,
        .help =
            "Calls with the same key go to the same endpoint of a tier while it can serve "
            "them, so that prompt caches keep working: \"header:NAME\", \"field:PATH\" of the "
            "JSON body, or \"prompt\" for the instructions and the user's first message. Empty: by "
            "weight and load alone." },
    { "api", OPT_WORD, IN(upstream_conf, api), "auto", NULL, NULL, OPT_LIVE,
        .help = "How answers are read for content, errors and usage: \"auto\" goes by the path of "
                "the request, \"none\" reads nothing.",
        .words = api_words },
    { "breaker_failures", OPT_NUMBER, IN(upstream_conf, breaker_failures), "5", "1", "1000000",
        OPT_LIVE,
        .help =
            "An endpoint that has failed so many calls within breaker_window, and breaker_rate "
            "of all of them, gets no calls for breaker_pause, and then one as a probe. A client "
            "that leaves and a 429 count neither way. It holds where there are other endpoints." },
    { "breaker_pause", OPT_DURATION, IN(upstream_conf, breaker_pause_ms), "10s", "1ms", "1d",
        OPT_LIVE, .help = "How long an endpoint gets no calls after breaker_failures." },
    { "breaker_rate", OPT_NUMBER, IN(upstream_conf, breaker_rate), "50", "1", "100", OPT_LIVE,
        .help = "How many of a hundred calls within breaker_window must have failed, beside "
                "breaker_failures." },
    { "breaker_window", OPT_DURATION, IN(upstream_conf, breaker_window_ms), "30s", "100ms", "1h",
        OPT_LIVE, .help = "How far back calls count for breaker_failures and breaker_rate." },
    { "ca_file", OPT_FILE, IN(upstream_conf, own.ca_file), "", NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the authorities that may have signed the upstream's "
                "certificate. Empty: the system's." },
    { "certificate", OPT_FILE, IN(upstream_conf, own.certificate), "", NULL, NULL, OPT_LIVE,
        .help = "The PEM file with the certificate that Tarry shows to the upstream, and those "
                "between it and its authority. Read again on a reload. Empty: none is shown." },
    { "connect_timeout", OPT_DURATION, IN(upstream_conf, connect_timeout_ms), "5s", "1ms", "1h",
        OPT_LIVE,
        .help =
            "How long looking the name up, connecting and the TLS handshake may take together." },
    { "connection_max_age", OPT_DURATION, IN(upstream_conf, connection_max_age_ms), "10m", "1ms",
        "30d", OPT_LIVE,
        .help =
            "A connection that is older takes no new calls, finishes those it has and closes." },
    { "content_idle_timeout", OPT_DURATION, IN(upstream_conf, content_idle_timeout_ms), "10m",
        "1ms", "7d", OPT_LIVE,
        .help = "How long an event stream may bring no content, whatever else it brings. Pings "
                "and comments are no content." },
    { "fallback_on", OPT_KINDS, IN(upstream_conf, fallback_on), NULL, NULL, NULL, OPT_LIVE,
        .help = "Kinds of error that are not retried but send the call to the next tier: a prompt "
                "that is too long for the model, and a refusal by its content filter.",
        .words = fallback_words },
    { "first_byte_timeout", OPT_DURATION, IN(upstream_conf, first_byte_timeout_ms), "120s", "1ms",
        "7d", OPT_LIVE, .help = "How long the upstream may take until its response begins." },
    { "first_content_timeout", OPT_DURATION, IN(upstream_conf, first_content_timeout_ms), "120s",
        "1ms", "7d", OPT_LIVE,
        .help = "How long it may take from the head of the response to its first content. Pings, "
                "comments, role-only deltas and response.created are no content." },
    { "hold_max", OPT_SIZE, IN(upstream_conf, hold_max), "64K", "0", "64M", OPT_LIVE,
        .help = "How many bytes of a response are held back until its first content, so that an "
                "error before it can still be retried or reported with a true status." },
    { "hold_timeout", OPT_DURATION, IN(upstream_conf, hold_timeout_ms), "10s", "0ms", "1h",
        OPT_LIVE,
        .help = "How long the head of a response is held back for its first content. Then it goes "
                "to the client, so that no load balancer cuts the silence." },
    { "home", OPT_TEXT, IN(upstream_conf, home), "", NULL, NULL, OPT_LIVE,
        .help = "The endpoint that has what the account keeps (files, batches and the like), and "
                "that is asked for stored responses whose endpoint is not remembered. Empty: the "
                "first one." },
    { "http2", OPT_BOOL, IN(upstream_conf, own.http2), "true", NULL, NULL, OPT_LIVE,
        .help = "Whether HTTP/2 is offered (by ALPN, so over https only). The upstream may still "
                "choose HTTP/1.1." },
    { "idle_timeout", OPT_DURATION, IN(upstream_conf, idle_timeout_ms), "60s", "1ms", "7d",
        OPT_LIVE,
        .help = "How long the upstream may be silent between two bytes of its response. An event "
                "stream has content_idle_timeout instead, unless this option is written." },
    { "include_usage", OPT_BOOL, IN(upstream_conf, include_usage), "false", NULL, NULL, OPT_LIVE,
        .help = "Whether streamed chat completions are asked for their usage where the client "
                "left that open: stream_options.include_usage is added to the request, and the "
                "extra chunk is taken out of what the client gets. Only bodies that are plain "
                "JSON are changed." },
    { "insecure", OPT_BOOL, IN(upstream_conf, own.insecure), "false", NULL, NULL, OPT_LIVE,
        .help = "Allows an http origin that is neither loopback nor a private address: prompts and "
                "keys then cross the network unencrypted." },
    { "keep_alive_timeout", OPT_DURATION, IN(upstream_conf, keep_alive_timeout_ms), "90s", "1ms",
        "1d", OPT_LIVE, .help = "How long an unused connection to the upstream is kept." },
    { "max_connections", OPT_NUMBER, IN(upstream_conf, max_connections), "256", "1", "65535",
        OPT_LIVE,
        .help = "How many connections one process opens to each endpoint. Over HTTP/2 one carries "
                "many calls, over HTTP/1.1 one at a time; calls beyond that wait." },
    { "origin", OPT_ORIGIN, IN(upstream_conf, own.origin), NULL, NULL, NULL, OPT_LIVE,
        .help = "Where calls go: https://HOST or https://HOST:PORT. Plain http is for loopback and "
                "private addresses. Required, unless the section has endpoints." },
    { "out_pause", OPT_DURATION, IN(upstream_conf, out_pause_ms), "1h", "1ms", "30d", OPT_LIVE,
        .help = "How long an endpoint whose key is refused, or whose quota is used up, gets no "
                "calls while others can serve them. A new key ends it at once." },
    { "ping_interval", OPT_DURATION, IN(upstream_conf, ping_interval_ms), "15s", "1ms", "1d",
        OPT_LIVE,
        .help = "HTTP/2: a connection with calls on it that is silent for so long is probed." },
    { "ping_timeout", OPT_DURATION, IN(upstream_conf, ping_timeout_ms), "10s", "1ms", "1h",
        OPT_LIVE,
        .help =
            "HTTP/2: a connection that does not answer the probe within this time is given up." },
    { "private_key", OPT_FILE, IN(upstream_conf, own.private_key), "", NULL, NULL, OPT_LIVE,
        .help = "The PEM file with that certificate's key. The account that starts Tarry must be "
                "able to read it." },
    { "probe_after", OPT_DURATION, IN(upstream_conf, probe_after_ms), "5s", "1ms", "1d", OPT_LIVE,
        .help = "HTTP/2: an unused connection that was silent for so long must answer a PING "
                "before it gets a call." },
    { "probe_timeout", OPT_DURATION, IN(upstream_conf, probe_timeout_ms), "1s", "1ms", "1h",
        OPT_LIVE, .help = "HTTP/2: how long it may take to answer; then it is given up." },
    { "proxy", OPT_PROXY, IN(upstream_conf, own.proxy), "", NULL, NULL, OPT_LIVE,
        .help =
            "The HTTP proxy through which the upstream is reached, as "
            "\"http://[USER:PASSWORD@]HOST[:PORT]\" (port 3128 if none is written). Tarry asks it "
            "for a tunnel (CONNECT), in which TLS and HTTP/2 are end to end; the proxy resolves "
            "the upstream's name. Empty: none." },
    { "proxy_authorization", OPT_HIDDEN, IN(upstream_conf, own.proxy_authorization), "", NULL, NULL,
        OPT_LIVE,
        .help =
            "The value of Proxy-Authorization, such as \"Bearer ${file:/run/secrets/proxy}\". A "
            "user and a password in proxy need none." },
    { "queue_max", OPT_NUMBER, IN(upstream_conf, queue_max), "10000", "0", "10000000", OPT_LIVE,
        .help = "How many calls may wait for a limit in one process; further ones are refused with "
                "429." },
    { "queue_tenant_max", OPT_NUMBER, IN(upstream_conf, queue_tenant_max), "1000", "0", "10000000",
        OPT_LIVE,
        .help = "The same for the calls of one tenant. Calls without a tenant have no such "
                "bound." },
    { "queue_tenants_max", OPT_NUMBER, IN(upstream_conf, queue_tenants_max), "1000", "1", "100000",
        OPT_LIVE,
        .help = "How many tenants with waiting calls are told apart in one process. The calls of "
                "further ones share one turn." },
    { "queue_timeout", OPT_DURATION, IN(upstream_conf, queue_timeout_ms), "2m", "1ms", "1d",
        OPT_LIVE,
        .help = "How long a call may wait for a limit before it is refused with 429. "
                "total_timeout and Tarry-Timeout hold too." },
    { "rate_limit_headers", OPT_BOOL, IN(upstream_conf, rate_limit_headers), "true", NULL, NULL,
        OPT_LIVE,
        .help = "Calls wait where the service has said that nothing is left "
                "(x-ratelimit-remaining-..., anthropic-ratelimit-...), for each key and model, "
                "instead of being refused by it." },
    { "relay_headers", OPT_NAMES, IN(upstream_conf, relay_headers), NULL, NULL, NULL, OPT_LIVE,
        .help = "Further response fields that a relay takes from the upstream, such as "
                "\"x-request-id\"." },
    { "response_max", OPT_SIZE, IN(upstream_conf, response_max), "32M", "1", "4G", OPT_LIVE,
        .help = "How large a response may be that is brought back to a worker. Relayed "
                "responses may have any size." },
    { "rest_max", OPT_DURATION, IN(upstream_conf, rest_max_ms), "1h", "0ms", "30d", OPT_LIVE,
        .help =
            "The longest pause in which an endpoint gets no calls because the service has asked "
            "for one (Retry-After and the like)." },
    { "retries", OPT_NUMBER, IN(upstream_conf, retries), "2", "0", "100", OPT_LIVE,
        .help = "How often a call is made again after a failure that says that it was not "
                "processed, or that the service is overloaded." },
    { "retry_after_max", OPT_DURATION, IN(upstream_conf, retry_after_max_ms), "60s", "0ms", "1d",
        OPT_LIVE,
        .help = "The longest pause that a service may ask for. If it asks for more, the caller "
                "gets its answer at once." },
    { "retry_budget", OPT_NUMBER, IN(upstream_conf, retry_budget), "50", "0", "1000", OPT_LIVE,
        .help = "How many retries an upstream may have for each hundred calls of "
                "retry_budget_window, over all processes, so that an outage is not multiplied. A "
                "call that would be over it gets the answer, or the failure, that it has. A call "
                "that was never started, and one that goes on to another endpoint that is ready, "
                "take nothing from it." },
    { "retry_budget_min", OPT_NUMBER, IN(upstream_conf, retry_budget_min), "100", "0", "10000000",
        OPT_LIVE,
        .help =
            "How many retries there may be in retry_budget_window however few calls there are." },
    { "retry_budget_window", OPT_DURATION, IN(upstream_conf, retry_budget_window_ms), "10s",
        "100ms", "1h", OPT_LIVE, .help = "How far back calls and retries count for retry_budget." },
    { "retry_first_pause", OPT_DURATION, IN(upstream_conf, retry_first_pause_ms), "500ms", "1ms",
        "1s", OPT_LIVE,
        .help = "The pause before the first retry (less a random part); it doubles from there." },
    { "retry_max_pause", OPT_DURATION, IN(upstream_conf, retry_max_pause_ms), "8s", "1ms", "1h",
        OPT_LIVE,
        .help = "The longest pause of Tarry's own choice. A pause that the service asks for may be "
                "longer." },
    { "retry_on", OPT_STATUSES, IN(upstream_conf, retry_on), "409, 429, 500, 502, 503, 529", NULL,
        NULL, OPT_LIVE,
        .help = "Statuses after which a call is made again. 408 and 504 are left out: they often "
                "come from an edge in front of a service that has done the work, and bills it." },
    { "retry_unstarted_within", OPT_DURATION, IN(upstream_conf, retry_unstarted_within_ms), "250ms",
        "0ms", "1m", OPT_LIVE,
        .help = "A new connection that is reset this soon after the request was sent, and a kept "
                "one that ends this soon, have not been looked at: the call is made again, and "
                "that does not count as a retry. Over HTTP/2 it does not hold where the service "
                "reset the call's stream alone, or said with GOAWAY which calls it has seen." },
    { "retry_unsure_within", OPT_DURATION, IN(upstream_conf, retry_unsure_within_ms), "0ms", "0ms",
        "1h", OPT_LIVE,
        .help = "A call that broke off before its response began may have been processed and "
                "billed. It is made again only if it broke off this soon after it was sent. 0: "
                "never." },
    { "set_header", OPT_HEADERS, IN(upstream_conf, own.set_header), NULL, NULL, NULL, OPT_LIVE,
        .help = "Fields, each \"Name: value\", that every call gets last, in place of what the "
                "worker or client sent under that name. The place for API keys: if one of them is "
                "a credential, every other credential of the request is removed. \"?Name: value\" "
                "is set only if the request has no such field." },
    { "stateful", OPT_BOOL, IN(upstream_conf, stateful), "true", NULL, NULL, OPT_LIVE,
        .help = "Whether requests that name what an account keeps (a stored response, a file, a "
                "batch, a thread and the like) go to the endpoint that has it, and to no other. "
                "false: the endpoints are keys of one account." },
    { "stream_timeout", OPT_DURATION, IN(upstream_conf, stream_timeout_ms), "1h", "1ms", "7d",
        OPT_LIVE, .help = "How long an event stream may take in all, from its first content on." },
    { "streams_per_connection", OPT_NUMBER, IN(upstream_conf, streams_per_connection), "32", "1",
        "1000", OPT_LIVE,
        .help =
            "HTTP/2: how many calls share one connection at most. The peer may allow fewer, and "
            "while connections break under their calls fewer share one: half as many as the "
            "last one took with it." },
    { "streams_recovery_interval", OPT_DURATION, IN(upstream_conf, streams_recovery_interval_ms),
        "1m", "1ms", "1d", OPT_LIVE,
        .help = "HTTP/2: after so long without a connection that broke under its calls, twice as "
                "many share one again, up to streams_per_connection." },
    { "tenant", OPT_SELECTOR, IN(upstream_conf, tenant), "", NULL, NULL, OPT_LIVE,
        .help =
            "Tenants take turns where calls have to wait. A call's tenant is \"header:NAME\" (a "
            "field of the request), \"address\" (the client's) or \"credential\" (the key that "
            "the request brings along). A handoff's Tarry-Limit-Key goes first. Empty: all calls "
            "are one "
            "tenant's." },
    { "tenant_weights", OPT_WEIGHTS, IN(upstream_conf, tenant_weights), NULL, NULL, NULL, OPT_LIVE,
        .help = "How many turns a tenant has in each round, such as \"acme: 4\", by the text of "
                "the field or of Tarry-Limit-Key. All others have one." },
    { "total_timeout", OPT_DURATION, IN(upstream_conf, total_timeout_ms), "10m", "1ms", "7d",
        OPT_LIVE,
        .help = "How long a call may take in all, with its retries and their pauses; for an event "
                "stream until its first content, for other answers until their end." },
    { "tunnel_idle_timeout", OPT_DURATION, IN(upstream_conf, tunnel_idle_timeout_ms), "5m", "1ms",
        "7d", OPT_LIVE,
        .help = "How long a WebSocket may carry no byte in either direction before it is closed "
                "with 1001. It should be longer than the interval of pings." },
    { "tunnel_timeout", OPT_DURATION, IN(upstream_conf, tunnel_timeout_ms), "1d", "1ms", "30d",
        OPT_LIVE,
        .help = "How long a WebSocket may stand before it is closed with 1001, however much it "
                "carries. Its handshake is bound by total_timeout." },
    { "usage", OPT_BOOL, IN(upstream_conf, usage), "true", NULL, NULL, OPT_LIVE,
        .help = "Whether the tokens that a call used are read from its answer. Such calls are made "
                "with Accept-Encoding: identity." },
    { "websockets_max", OPT_NUMBER, IN(upstream_conf, websockets_max), "1000", "0", "1000000",
        OPT_LIVE,
        .help = "How many WebSockets to one endpoint one process may have open. Each has a "
                "connection of its own, which max_connections does not count. A further one goes "
                "to another endpoint, or gets 503." },
};

static const struct opt route_rows[] = {
    { "body_max", OPT_SIZE, IN(route_conf, body_max), "0", "0", "1024G", OPT_LIVE,
        .help = "The largest request body on this route. 0: the general body_max holds." },
    { "compress", OPT_BOOL, IN(route_conf, compress), "true", NULL, NULL, OPT_LIVE,
        .help = "Whether responses may be compressed, where there is a compression section. False "
                "is for pages that hold secrets." },
    { "health", OPT_WORD, IN(route_conf, health), "off", NULL, NULL, OPT_LIVE,
        .help = "Tarry itself answers, as its admin listeners do for /livez and /readyz: with "
                "\"live\", 200 while it runs; with \"ready\", 200, or 503 after SIGTERM and while "
                "a pool that is required_for_ready cannot be reached. For load balancers that can "
                "ask only where they send requests.",
        .words = health_words },
    { "host", OPT_HOST, IN(route_conf, host), "", NULL, NULL, OPT_LIVE,
        .help =
            "Only requests whose Host field has this name; its port does not matter. Empty: any." },
    { "internal", OPT_BOOL, IN(route_conf, internal), "false", NULL, NULL, OPT_LIVE,
        .help = "Clients get 404; only resumes and notifies reach such paths." },
    { "keep_alive_interval", OPT_DURATION, IN(route_conf, keep_alive_interval_ms), "0ms", "0ms",
        "1h", OPT_LIVE,
        .help = "With upstream: a client whose request asks for an event stream gets a comment "
                "line after so long a silence, also before the answer begins. The first one fixes "
                "status 200; a later failure is then an event of the stream. 0: none." },
    { "prefix_rewrite", OPT_TEXT, IN(route_conf, prefix_rewrite), "", NULL, NULL, OPT_LIVE,
        .help =
            "With upstream: takes the place of the route's prefix in the path that the service "
            "gets. Both end with a slash: route \"/openai/\" with \"/\" sends /openai/v1/models "
            "on as /v1/models. Empty: the path stays as it is." },
    { "rewrite_urls", OPT_BOOL, IN(route_conf, rewrite_urls), "true", NULL, NULL, OPT_LIVE,
        .help = "With upstream: absolute URLs of the service in its answers are changed so that "
                "they lead through this route: the fields Location, Content-Location, Link, "
                "Operation-Location, X-Goog-Upload-URL and X-Goog-Upload-Control-URL, and "
                "results_url, next and nextLink of JSON that is no model's answer." },
    { "upstream", OPT_UPSTREAM, IN(route_conf, upstream), NULL, NULL, NULL, OPT_LIVE,
        .help = "The upstream that gets the requests directly, with no worker in between." },
    { "websocket", OPT_BOOL, IN(route_conf, websocket), "false", NULL, NULL, OPT_LIVE,
        .help = "Whether clients may open a WebSocket to the workers or the upstream. To workers, "
                "each holds a slot of the pool for as long as it stands: give a server of "
                "WebSockets a pool of its own. Without it a handshake is served as an ordinary "
                "request." },
    { "websocket_origins", OPT_HOSTS, IN(route_conf, websocket_origins), NULL, NULL, NULL, OPT_LIVE,
        .help = "Hosts whose pages may open a WebSocket to the upstream, beside the host of the "
                "request itself. A handshake of another page (its Origin field) gets 403: browsers "
                "let every page open one, and the upstream's key is Tarry's. Programs send no "
                "Origin." },
    { "workers", OPT_POOL, IN(route_conf, pool), NULL, NULL, NULL, OPT_LIVE,
        .help = "The pool that gets the requests." },
};

static const struct opt tracing_rows[] = {
    { "batch_max", OPT_SIZE, IN(tracing_conf, batch_max), "256K", "4K", "16M", OPT_LIVE,
        .help = "How many bytes of spans are sent with one request at the most. A batch of this "
                "size is sent at once." },
    { "buffer_max", OPT_SIZE, IN(tracing_conf, buffer_max), "4M", "64K", "1G", OPT_LIVE,
        .help = "How many bytes of spans each process keeps while the collector does not take "
                "them. Further spans are dropped, counted, and reported in the log." },
    { "finish_timeout", OPT_DURATION, IN(tracing_conf, finish_timeout_ms), "2s", "0ms", "10m",
        OPT_LIVE,
        .help = "How long a process that stops waits until the collector has taken the last "
                "spans." },
    { "flush_interval", OPT_DURATION, IN(tracing_conf, flush_interval_ms), "5s", "10ms", "10m",
        OPT_LIVE, .help = "How long a span waits for others to be sent with." },
    { "one_in", OPT_NUMBER, IN(tracing_conf, one_in), "1", "1", "1000000", OPT_LIVE,
        .help = "One of how many exchanges is traced, chosen at random: 1 is all of them, 100 is "
                "one percent. Where a trusted proxy sends a traceparent, its decision counts." },
    { "path", OPT_PATH, IN(tracing_conf, path), "/v1/traces", NULL, NULL, OPT_LIVE,
        .help = "The path at the collector." },
    { "service", OPT_TEXT, IN(tracing_conf, service), "tarry", NULL, NULL, OPT_LIVE,
        .help = "The name under which the spans appear (service.name)." },
    { "upstream", OPT_UPSTREAM, IN(tracing_conf, upstream), NULL, NULL, NULL, OPT_LIVE,
        .help = "The upstream section with the collector's origin, such as "
                "\"http://127.0.0.1:4318\". A key that it asks for goes into set_header there.",
        .required = true },
};

#define ROWS(r) r, sizeof(r) / sizeof(*(r))

static const struct opt_section sections[OPT_NSECTIONS] = {
    [SECTION_ROOT] = { "", NULL, NULL, SECTION_ROOT, false, ROWS(root_rows),
        "Options of the whole proxy." },
    [SECTION_ACCESS_LOG] = { "access_log", NULL, NULL, SECTION_ROOT, false, ROWS(access_log_rows),
        "With this section each exchange writes a line when it ends. Without it there is no access "
        "log." },
    [SECTION_ADMIN] = { "admin", "address", "127.0.0.1:9180", SECTION_ROOT, true, ROWS(admin_rows),
        "A listener for /metrics (Prometheus), /status (JSON), /livez and /readyz. It knows no "
        "passwords: "
        "keep it on loopback "
        "or a "
        "unix socket." },
    [SECTION_COMPRESSION] = { "compression", NULL, NULL, SECTION_ROOT, false,
        ROWS(compression_rows),
        "With this section responses of the listed types are compressed for clients that take it, "
        "unless they are already, or are told to stay as they are. Without it nothing is: before "
        "switching it on, read what compression can give away (docs/operations.md)." },
    [SECTION_IDENTITY] = { "identity", "name", "shop", SECTION_LISTEN, true, ROWS(identity_rows),
        "A further certificate of the listener (inside a listen section). It is shown to clients "
        "that ask for a name in it (its subjectAltName; \"*.example.com\" stands for one label). "
        "Of "
        "identities with the same names and different kinds of key (RSA, ECDSA) a client is shown "
        "the one that it can use. The title is for messages." },
    [SECTION_LISTEN] = { "listen", "address", "127.0.0.1:8080", SECTION_ROOT, true,
        ROWS(listen_rows), "A listener: an address that clients connect to. At least one." },
    [SECTION_LOG] = { "log", NULL, NULL, SECTION_ROOT, false, ROWS(log_rows),
        "Where Tarry says what it does." },
    [SECTION_ROUTE] = { "route", "prefix", "/", SECTION_ROOT, true, ROWS(route_rows),
        "Which requests go where: to a pool of workers, or directly to an upstream. Routes whose "
        "host "
        "matches are looked at first, then those without host; among them the longest prefix wins. "
        "The "
        "prefix is compared with the path after percent-decoding and after \".\", \"..\" and "
        "doubled "
        "slashes are resolved; \"/a/\" does not match \"/a\". At least one." },
    [SECTION_TRACING] = { "tracing", NULL, NULL, SECTION_ROOT, false, ROWS(tracing_rows),
        "With this section exchanges are traced: spans of the time in the queue, of visits and of "
        "attempts at upstreams are sent to an OpenTelemetry collector (OTLP over HTTP, JSON)." },
    [SECTION_UPSTREAM] = { "upstream", "name", "openai", SECTION_ROOT, true, ROWS(upstream_rows),
        "A service that slow calls may go to. Calls to any other origin are refused. Handoffs name "
        "it by its origin, or as tarry://NAME. Several may have one origin, with a key each, say: "
        "the "
        "first in the file is the one that the origin means." },
    [SECTION_ENDPOINT] = { "endpoint", "name", "openai-a", SECTION_UPSTREAM, true,
        ROWS(endpoint_rows),
        "One place where the upstream's calls may go (inside an upstream section): a key, a "
        "region, a model server, or another service as the last resort. An upstream with "
        "endpoints has no origin of its own." },
    [SECTION_LIMIT] = { "limit", NULL, NULL, SECTION_UPSTREAM, true, ROWS(limit_rows),
        "A pace for the upstream's calls (inside an upstream section). Calls above it wait, taking "
        "turns among the keys, until their deadline." },
    [SECTION_WORKERS] = { "workers", "name", "app", SECTION_ROOT, true, ROWS(workers_rows),
        "A pool of servers that run the sync app, with one queue in front of them." },
    [SECTION_SERVER] = { "server", "address", "127.0.0.1:8001", SECTION_WORKERS, true,
        ROWS(server_rows),
        "One backend of the pool (inside a workers section). At least one. The host is an IP "
        "address or "
        "localhost." },
};

const struct opt_section *options_section(enum opt_section_id id)
{
    return &sections[id];
}

const struct opt *options_find(enum opt_section_id id, struct str name)
{
    const struct opt_section *s = &sections[id];

    for (size_t i = 0; i < s->nrows; i++)
        if (str_eq(str_of(s->rows[i].name), name))
            return &s->rows[i];
    return NULL;
}

int options_find_section(enum opt_section_id parent, struct str name)
{
    for (int id = SECTION_ROOT + 1; id < OPT_NSECTIONS; id++)
        if (sections[id].parent == parent && str_eq(str_of(sections[id].name), name))
            return id;
    return -1;
}

bool options_is_list(enum opt_type type)
{
    return type == OPT_CIDRS || type == OPT_HEADERS || type == OPT_NAMES || type == OPT_TYPES ||
           type == OPT_HOSTS || type == OPT_ENCODINGS || type == OPT_STATUSES ||
           type == OPT_KINDS || type == OPT_WEIGHTS;
}

/* Letters to change, add or leave out to make one of the other (Levenshtein), case ignored; long
 * names are never like. */
static unsigned options_distance(struct str a, struct str b)
{
    enum { LONGEST = 40 };
    unsigned row[LONGEST + 1];

    if (a.n > LONGEST || b.n > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= b.n; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a.n; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.n; j++) {
            unsigned change = diagonal + (str_lower_char(a.p[i - 1]) != str_lower_char(b.p[j - 1]));
            unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;

            diagonal = row[j];
            row[j] = change < least ? change : least;
        }
    }
    return row[b.n];
}

/* Keeps the better one of *best and `name`. */
static void options_weigh(
    const char *name, struct str wrong, const char **best, unsigned *best_distance)
{
    unsigned d = options_distance(wrong, str_of(name));

    /* A third of its letters may be wrong: "qeue_maxx" is meant for "queue_max", "foo" for nothing.
     */
    if (d < *best_distance && d <= (strlen(name) + 2) / 3) {
        *best = name;
        *best_distance = d;
    }
}

const char *options_nearest(enum opt_section_id in, struct str name, enum opt_section_id *where)
{
    const struct opt_section *s = &sections[in];
    unsigned best_distance = ~0U;
    const char *best = NULL;

    *where = in;
    for (int id = 0; id < OPT_NSECTIONS; id++) {
        const struct opt *row = options_find((enum opt_section_id)id, name);

        if (row) {
            *where = (enum opt_section_id)id;
            return row->name;
        }
        if (id != SECTION_ROOT && str_eq(str_of(sections[id].name), name)) {
            *where = sections[id].parent;
            return sections[id].name;
        }
    }
    for (size_t i = 0; i < s->nrows; i++)
        options_weigh(s->rows[i].name, name, &best, &best_distance);
    for (int id = SECTION_ROOT + 1; id < OPT_NSECTIONS; id++)
        if (sections[id].parent == in)
            options_weigh(sections[id].name, name, &best, &best_distance);
    return best;
}

const char *options_nearest_word(const char *const *words, struct str name)
{
    unsigned best_distance = ~0U;
    const char *best = NULL;

    for (size_t i = 0; words[i]; i++)
        options_weigh(words[i], name, &best, &best_distance);
    return best;
}
