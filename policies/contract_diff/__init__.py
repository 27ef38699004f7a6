"""What one contract permits that another does not, proved with the gateway's own decisions.

A decision looks at a name (of a model, a tool, a provider) only through the patterns that a contract holds. ``names``
finds one name for every way in which all patterns of both contracts can fit together, and the decision functions
themselves are asked about each: so what no such name shows, no name shows.
"""
