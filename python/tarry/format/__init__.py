"""The handoff's format: calls, answers, state and bodies as bytes. Nothing in here knows of a request or a run."""
