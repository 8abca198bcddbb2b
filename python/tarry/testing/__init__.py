"""Handoffs in tests; the public name is tarry.test."""
