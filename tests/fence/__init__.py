"""Fences around agents of a host, in network namespaces that the tests make."""
