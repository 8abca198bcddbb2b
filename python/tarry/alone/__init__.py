"""Without Tarry in front: its part is played within the process, for development servers and for tests."""
