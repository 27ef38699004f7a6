"""What a call may use at most, and what it is charged, worked out from its facts and figures. Pure.

* input: a token is at least one byte of text, so the bytes of the request; ``TOOLS_TOKENS`` more where it declares
  tools, which providers put into words of their own; what stands at the provider of a socket's conversation; and
  ``unread_input_tokens`` where it points at content that the provider holds or fetches.
* output, for each choice: the maximum that the request states, if that is more than 0; else the most that the model
  writes, where the price table knows it; else ``default_max_output_tokens``.
* money: the dearest price of input, and that of output, of the model or any of its fallbacks.

Lists and counts are requests without tokens; a socket's handshake is none at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .budget_rules import NOTHING, Amounts
from .facts import CallFacts, CallKind
from .prices import Price, PriceTable

TOOLS_TOKENS = 1024
DEFAULT_MAX_OUTPUT_TOKENS = 32_768
UNREAD_INPUT_TOKENS = 200_000


@dataclass(frozen=True, slots=True)
class Defaults:
    """What is assumed where a request does not say."""

    default_max_output_tokens: int = DEFAULT_MAX_OUTPUT_TOKENS
    unread_input_tokens: int = UNREAD_INPUT_TOKENS


def asks_for_tokens(facts: CallFacts) -> bool:
    """Whether a model reads and writes for the call."""
    return facts.kind in (CallKind.GENERATE, CallKind.EMBED)


def dearest_price(facts: CallFacts, prices: PriceTable) -> Price | None:
    """The price of the model or the dearest of its fallbacks; None where one of them is not in the table."""
    provider, model = facts.upstream or facts.provider, facts.upstream_model or facts.model
    price = prices.price_of(provider, model) if model else None
    for other in facts.fallback_models if price is not None else ():
        more = prices.price_of(provider, other)
        price = price.dearest_of(more) if price is not None and more is not None else None
    return price


def worst_case(
    facts: CallFacts, request_bytes: int, context_tokens: int, price: Price | None, defaults: Defaults
) -> Amounts:
    """What the call may use, money left out."""
    if facts.kind is CallKind.CONNECT:
        return NOTHING
    if not asks_for_tokens(facts):
        return Amounts(requests=1)
    read = request_bytes + context_tokens
    if facts.tools:
        read += TOOLS_TOKENS
    if facts.provider_state or facts.remote_urls:
        read += defaults.unread_input_tokens
    wrote = 0
    if facts.kind is CallKind.GENERATE:
        most = price.max_output_tokens if price is not None else None
        # some servers take 0 for no maximum
        wrote = facts.max_output_tokens or most or defaults.default_max_output_tokens
    return Amounts(1, read, wrote * facts.choices).bounded()


def with_cost(amounts: Amounts, price: Price) -> Amounts:
    """The same with what its tokens cost at most."""
    return replace(amounts, cost_microusd=price.most(amounts.input_tokens, amounts.output_tokens)).bounded()
