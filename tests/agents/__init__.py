"""Real coding agents, from npm at pinned versions, against the provider stand-in: by proxy, by base URL, isolated."""
