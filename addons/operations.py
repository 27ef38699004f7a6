"""What the admin socket answers: each operation takes a closed request and returns what it tells. Runs on the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError
from .admin import Operation

if TYPE_CHECKING:
    from .gateway import Gateway


class Operations:
    """The operations of one gateway. Orders come by another socket (``order_desk``)."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def by_name(self) -> Mapping[str, Operation]:
        return {
            "status": self._status,
            "jobs": self._status,
            "lease": self._lease,
            "seal": self._seal,
            "reload": self._reload,
        }

    async def _status(self, request: JsonObject) -> JsonObject:
        only(request, {"op"})
        return self._gateway.status()

    async def _lease(self, request: JsonObject) -> JsonObject:
        only(request, {"op", "policy_hash", "job_id", "ttl_s"})
        if not is_sha256_b64u(request.get("policy_hash")):
            raise ClawproxyError("INVALID_REQUEST", "policy_hash is not a contract hash", where="lease")
        gateway = self._gateway
        lease = await gateway.lease(request["policy_hash"], request.get("job_id"), request.get("ttl_s"))
        return {
            "job_id": lease.job_id,
            "handle": lease.handle,
            "addresses": gateway.addresses,
            "ca": str(gateway.ca_file),
        }

    async def _seal(self, request: JsonObject) -> JsonObject:
        only(request, {"op", "job_id", "force"})
        return await self._gateway.seal(str(request.get("job_id")), force=request.get("force") is True)

    async def _reload(self, request: JsonObject) -> JsonObject:
        only(request, {"op"})
        return await self._gateway.reloading.reload()


def only(request: JsonObject, known: set[str]) -> None:
    """Raise ``ClawproxyError`` (INVALID_REQUEST) for an argument that is not known."""
    unknown = request.keys() - known
    if unknown:
        raise ClawproxyError("INVALID_REQUEST", "unknown argument", got=min(unknown), expected=", ".join(sorted(known)))
