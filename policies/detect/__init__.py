"""Detectors of data in text: what is secret, personal, or named by the operator (docs/data-boundaries.md)."""
