"""For all tests: property tests stay quick, and have no deadline, since the machine may be busy."""

from hypothesis import settings

settings.register_profile("clawproxy", max_examples=60, deadline=None)
settings.load_profile("clawproxy")
