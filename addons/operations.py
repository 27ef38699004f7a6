"""What the admin socket answers: each operation takes a closed request and returns what it tells. Runs on the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..receipts.attachments import Attachment
from ..receipts.containment import NOT_CONTAINED, read_containment
from ..receipts.presenters import presenter_at
from ..tokens.canonical import JsonObject
from ..tokens.digests import is_sha256_b64u
from ..tokens.errors import ClawproxyError
from .admin import FileOperation, Held, Operation
from .door_sockets import KINDS, adopt

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
            "rebind": self._rebind,
            "attach": self._attach,
            "audit": self._audit,
            "door_counted": self._door_counted,
        }

    async def _status(self, request: JsonObject) -> JsonObject:
        only(request, {"op"})
        return self._gateway.status()

    def with_files(self) -> Mapping[str, FileOperation]:
        return {"open_door": self._open_door}

    async def _open_door(self, request: JsonObject, files: list[int]) -> tuple[JsonObject, Held]:
        """The door of an isolated job, open as long as the connection is that brought its sockets."""
        sockets = adopt(files, request)
        try:
            only(request, {"op", "job_id", "handle", *KINDS})
        except ClawproxyError:
            sockets.close()
            raise
        door = await self._gateway.open_door(str(request.get("job_id")), str(request.get("handle")), sockets)
        return {"job_id": door.job_id}, door

    async def _lease(self, request: JsonObject) -> JsonObject:
        only(request, {"op", "policy_hash", "job_id", "ttl_s", "containment", "observe"})
        if not is_sha256_b64u(request.get("policy_hash")):
            raise ClawproxyError("INVALID_REQUEST", "policy_hash is not a contract hash", where="lease")
        gateway = self._gateway
        told, observe = request.get("containment"), request.get("observe") is True
        containment = NOT_CONTAINED if told is None else read_containment(told)
        lease = await gateway.lease(
            request["policy_hash"], request.get("job_id"), request.get("ttl_s"), containment, observe=observe
        )
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

    async def _rebind(self, request: JsonObject) -> JsonObject:
        """Bind a job to the presenter at ``to``, or to the next one; what the former one has open is cut."""
        only(request, {"op", "job_id", "to"})
        job_id, to = str(request.get("job_id")), request.get("to")
        presenter = None if to is None else parse_presenter(str(to))
        await self._gateway.end_calls(job_id, "the job is bound to another presenter")
        await self._gateway.jobs.rebind(job_id, presenter)
        return {"job_id": job_id, "presenter": presenter}

    async def _attach(self, request: JsonObject) -> JsonObject:
        """Take other evidence into a job; its file was staged by whoever asks."""
        only(request, {"op", "job_id", "attachment"})
        attachment = Attachment.parse(_object(request, "attachment"))
        await self._gateway.jobs.attach(str(request.get("job_id")), attachment)
        return {"sha256_b64u": attachment.sha256_b64u}

    async def _audit(self, request: JsonObject) -> JsonObject:
        """Record an audit of the agent's configuration."""
        only(request, {"op", "job_id", "event", "detail"})
        job_id, detail = str(request.get("job_id")), _object(request, "detail")
        await self._gateway.jobs.record_audit(job_id, str(request.get("event")), detail)
        return {"job_id": job_id}

    async def _door_counted(self, request: JsonObject) -> JsonObject:
        """Record what the rules of an isolated job's door turned away."""
        only(request, {"op", "job_id", "packets"})
        job_id = str(request.get("job_id"))
        await self._gateway.count_door(job_id, _object(request, "packets"))
        return {"job_id": job_id}


def _object(request: JsonObject, name: str) -> JsonObject:
    value = request.get(name)
    if not isinstance(value, dict):
        raise ClawproxyError("INVALID_REQUEST", "not an object", where=name)
    return value


def parse_presenter(address: str) -> str:
    """The presenter at an IP address; raises ``ClawproxyError`` (INVALID_REQUEST)."""
    try:
        return presenter_at(address)
    except ValueError:
        raise ClawproxyError(
            "INVALID_REQUEST", "not an address", where="to", got=address, expected="an IP address"
        ) from None


def only(request: JsonObject, known: set[str]) -> None:
    """Raise ``ClawproxyError`` (INVALID_REQUEST) for an argument that is not known."""
    unknown = request.keys() - known
    if unknown:
        raise ClawproxyError("INVALID_REQUEST", "unknown argument", got=min(unknown), expected=", ".join(sorted(known)))
