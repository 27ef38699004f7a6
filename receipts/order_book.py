"""Touches files: the orders that stand (``policies.orders``), on the disk, below the state directory.

``orders/orders.json`` is one signed envelope (type ``gateway_orders``, the gateway's receipt key, JCS bytes), replaced
as a whole: staged, synced, renamed, the directory synced. ``orders/lock`` is held by whoever changes it, and by a
gateway while it reads it at its start, so that between the two no order is lost. A file that is not there is no
orders; one that does not hold is never taken for that.

Limits: whoever can write the directory can put back an earlier file, or take it away (docs/threat-model.md).
"""

from __future__ import annotations

import time
from pathlib import Path

from ..policies.orders import Orders, parse_orders
from ..tokens.canonical import jcs_bytes, parse_json_object
from ..tokens.envelope import build_envelope, open_envelope, timestamp
from ..tokens.errors import ClawproxyError
from ..tokens.keys import SigningKey
from .disk import Disk, OsDisk, place_file, read_whole

ENVELOPE_TYPE = "gateway_orders"
LOCK_WAIT_S = 15.0
_POLL_S = 0.02
_MAX_BYTES = 32 * 1024 * 1024
_MAX_NODES = 400_000
_TOKEN_LIFE_MS = 48 * 3600 * 1000
"""Longer than any token lives (a contract allows at most a day)."""


class OrderBook:
    """The file. Every method blocks on the disk; ``key`` is the receipt key."""

    def __init__(self, directory: Path, key: SigningKey, disk: Disk | None = None) -> None:
        self.directory = directory
        self.path = directory / "orders.json"
        self._key = key
        self._disk = disk or OsDisk()

    def lock(self, wait_s: float = LOCK_WAIT_S) -> int:
        """Take the lock; give it back with ``unlock``. Raises ``ClawproxyError`` (ORDERS_BUSY) after ``wait_s``."""
        until_s = time.monotonic() + wait_s
        try:
            if not self._disk.is_dir(self.directory):
                self._disk.mkdir(self.directory)
                self._disk.fsync_dir(self.directory.parent)
            while (handle := self._disk.lock(self.directory / "lock")) is None:
                if time.monotonic() > until_s:
                    raise ClawproxyError(
                        "ORDERS_BUSY",
                        "another command is changing the orders",
                        where=str(self.directory),
                        remedy="let it end, or end it",
                    )
                time.sleep(_POLL_S)
        except OSError as err:
            raise _unwritten(self.directory, err) from None
        return handle

    def unlock(self, handle: int) -> None:
        self._disk.close(handle)

    def load(self) -> Orders:
        """What stands. Raises ``ClawproxyError`` (ORDERS_DAMAGED), and then nothing may go out."""
        try:
            if self._disk.size(self.path) is None and self.path.name not in self._disk.names(self.directory):
                return Orders()
            data = read_whole(self._disk, self.path, _MAX_BYTES)
            envelope = parse_json_object(data, max_bytes=_MAX_BYTES, max_nodes=_MAX_NODES)
            payload = open_envelope(envelope, ENVELOPE_TYPE, (self._key.did,))
            orders = parse_orders(payload)
            if jcs_bytes(envelope) != data:
                raise ClawproxyError("ORDER_INVALID", "not the bytes that were written")
            return orders
        except (ClawproxyError, OSError) as err:
            message = err.message if isinstance(err, ClawproxyError) else (err.strerror or "error").lower()
            raise ClawproxyError(
                "ORDERS_DAMAGED",
                f"the file of stops and revocations does not hold: {message}",
                where=str(self.path),
                remedy="put a good copy of it back; without one move it away, and give every stop and revocation again",
            ) from None

    def save(self, orders: Orders, now_ms: int) -> None:
        """Durable on return. Raises ``ClawproxyError`` (ORDERS_NOT_WRITTEN)."""
        kept = orders.without_expired(timestamp(max(0, now_ms - _TOKEN_LIFE_MS)))
        envelope = build_envelope(ENVELOPE_TYPE, kept.to_json(), self._key, timestamp(now_ms))
        try:
            place_file(self._disk, self.directory / ".orders.new", self.path, jcs_bytes(envelope))
        except OSError as err:
            raise _unwritten(self.path, err) from None


def _unwritten(path: Path, err: OSError) -> ClawproxyError:
    return ClawproxyError(
        "ORDERS_NOT_WRITTEN",
        f"the orders could not be written: {(err.strerror or type(err).__name__).lower()}",
        where=str(path),
        remedy="free the disk or repair it, and give the order again",
    )
