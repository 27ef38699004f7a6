"""Data: the provider catalogue, tool classes, example contracts."""
