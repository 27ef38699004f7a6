"""For all tests. Property tests stay quick and have no deadline, since the machine may be busy; they try the same
examples each time, so that a red test is one that this change made red. ``make properties`` looks for new ones."""

import os

import pytest
from hypothesis import settings

settings.register_profile("clawproxy", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("new-examples", max_examples=60, deadline=None)
_TIMES = int(os.environ.get("PROPERTY_TIMES", "0"))
settings.load_profile("new-examples" if _TIMES else "clawproxy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``PROPERTY_TIMES`` as many examples, and others each time."""
    # a test with parameters is many items
    for test in {getattr(item, "function", None) for item in items} if _TIMES else ():
        if (of_test := getattr(test, "_hypothesis_internal_use_settings", None)) is not None:
            more = settings(of_test, max_examples=of_test.max_examples * _TIMES)
            vars(test)["_hypothesis_internal_use_settings"] = more
