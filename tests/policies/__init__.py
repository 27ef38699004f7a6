"""May it: contracts, pinning, routes, the decision."""
