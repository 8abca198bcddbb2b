"""A whole-system fuzzer: clients, workers and upstreams that misbehave at random around the real binary, and rules that must
hold whatever they do. One seed is one plan; scripts/chaos runs it and says how a failure is repeated.

    plan.py      what a seed decides: the conf of a round, and each exchange: who does what, when, and how it fails
    sock.py      non-blocking sockets with and without TLS, half-close and reset
    http1.py     HTTP/1.1 as both sides of these speak it, strict in what they read
    record.py    what has happened to an exchange
    client.py    the clients, HTTP/1.1 and HTTP/2
    server.py    the worker and the HTTP/1.1 upstream: they do what the plan of the request's number says
    server2.py   the HTTP/2 upstream
    proxy.py     the process under test: its conf, signals, log and metrics
    rules.py     what must hold at the end of each exchange and each round
    rounds.py    a round from its plan to its verdict, and the command
    runs.py      the worker's side of answers in pieces
    soak.py      the same parts under steady load, with reloads and deaths: scripts/soak
    storm.py     thousands of calls in flight and every fault of docs/faults.md among them: scripts/soak --faults

tests/e2e/test_combinations.py uses the same clients and servers with plans that are not random.
"""
