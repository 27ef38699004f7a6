"""The cage: namespaces in which an agent has no way out but the gateway's door (ADR-0011).

A cage is held by processes and descriptors alone: nothing of it has a name on the host, so whatever is killed, the
kernel clears it away. The modules that run inside (``warden`` and what it imports) use the standard library and
``tokens.errors`` alone, so that a cage starts fast.
"""
