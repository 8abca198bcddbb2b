"""Tarry before gunicorn's workers, started, watched and stopped by gunicorn's own arbiter through its documented server hooks.

The arbiter binds the public addresses, as it always does, and passes them to Tarry as inherited descriptors. Each worker serves a
private address in their place.

    config      the user's config and hooks, and ours behind them
    arbiter     hooks and signals in the arbiter
    proxy       the process tarry
    conf        its conf, from gunicorn's settings
    worker      hooks in a worker: its private address, and how it leaves without losing a request
    client      the app sees the client as if nobody was in between
    middleware  Django's middleware, where the settings do not list it
"""
