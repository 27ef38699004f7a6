"""A provider stand-in: what the demo and the end-to-end tests talk to instead of a model provider.

Its own process (``python -m clawproxy.standin``), so that what it saw is a witness apart from the gateway. It imports
nothing else of clawproxy. See ``server`` for the command line and the record, ``steering`` for slow and broken answers.
"""
