"""What a call used: the provider's figures, or an estimate that says so (docs/evidence-format.md, "Usage"). Pure.

The estimate is a quarter of the bytes, rounded up: of the request's body for the input, of the text in the answer for
the output. Of the answer only the first ``SAMPLE_BYTES`` are looked at, once, when the call ends: what part of them is
text counts for the rest as well.

Limits: a rough figure, for quotas and not for bills; content in base64 counts as if it were text.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from ..policies.facts import CallKind
from ..receipts.calls import Usage
from .wire.reader import ResponseReader

SAMPLE_BYTES = 8 * 1024
BYTES_PER_TOKEN = 4
# values of the members that hold what a model wrote, in every format; the last may be cut off by the sample's end
_TEXT = re.compile(
    rb'"(?:content|text|delta|arguments|partial_json|thinking|reasoning|reasoning_content|refusal|response|input)"'
    rb'\s{0,8}:\s{0,8}"([^"\\]*+(?:\\.[^"\\]*+)*+)',
    re.DOTALL,
)
# events in base64 inside of others, as Bedrock's invoke streams have them; their padding is no text
_WRAPPED = re.compile(rb'"bytes"\s{0,8}:\s{0,8}"([A-Za-z0-9+/]*+)')


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one call; ``cached`` and ``cache_write`` are parts of ``input``, ``reasoning`` of ``output``."""

    usage: Usage = Usage.NONE
    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


def count_tokens(
    reader: ResponseReader | None,
    kind: CallKind,
    *,
    status: int | None,
    request_bytes: int,
    sample: bytes,
    answer_bytes: int,
) -> TokenCounts:
    """What a call used. ``sample`` is the beginning of the ``answer_bytes`` that came.

    Where a stream was cut, what the provider had told by then holds, unless the estimate is more.
    """
    if reader is None or status is None or kind not in (CallKind.GENERATE, CallKind.EMBED):
        return TokenCounts()
    told = reader.usage_known
    if told and reader.ended:
        return _told(reader, Usage.REPORTED, reader.tokens_input, reader.tokens_output)
    written = estimate_output(sample, answer_bytes)
    if not told and (not 200 <= status < 300 or (reader.failed and not written)):
        return TokenCounts()  # the provider refused
    read = reader.tokens_input or -(-request_bytes // BYTES_PER_TOKEN)
    return _told(reader, Usage.ESTIMATED, read, max(reader.tokens_output, written))


def estimate_output(sample: bytes, answer_bytes: int) -> int:
    """Tokens of the text in an answer of ``answer_bytes`` that begins with ``sample``."""
    if not sample:
        return 0
    seen = [sample, *(base64.b64decode(found[: len(found) // 4 * 4]) for found in _WRAPPED.findall(sample))]
    text = sum(len(found) for part in seen for found in _TEXT.findall(part))
    return -(-text * max(answer_bytes, len(sample)) // (len(sample) * BYTES_PER_TOKEN))


def _told(reader: ResponseReader, usage: Usage, read: int, written: int) -> TokenCounts:
    return TokenCounts(usage, read, written, reader.tokens_cached, reader.tokens_cache_write, reader.tokens_reasoning)
