"""What an agent is told of a key that no format knows."""

from __future__ import annotations

import pytest
from clawproxy.addons.json_body import refusal_of_body
from clawproxy.addons.wire.keys import ClosedKeys
from clawproxy.tokens.errors import ClawproxyError


def test_an_unknown_key_is_refused_with_what_helps_when_the_provider_has_added_it() -> None:
    with pytest.raises(ClawproxyError) as caught:
        ClosedKeys("model input").check({"model": "m", "brand_new": 1}, "body")
    detail = refusal_of_body(caught.value).detail
    assert '"brand_new"' in detail
    assert "remove it, or update clawproxy if the provider has added it" in detail
