"""Benchmarks: the gateway beside stock mitmdump. ``python -m bench`` runs them; not part of the wheel."""
