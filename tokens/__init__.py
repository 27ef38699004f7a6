"""Who: CST claims, keys, envelopes, canonical JSON, reason codes."""
