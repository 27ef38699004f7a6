"""Requests of real clients in the shapes that were recorded: keys, types, names and paths; every text is ours."""
