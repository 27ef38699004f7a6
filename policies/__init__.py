"""May it: contracts, hash pinning, routes, the decision."""
