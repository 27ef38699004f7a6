"""Errors in every provider's shape. Pure."""

from __future__ import annotations

from .encode import JsonObject, dump

_ANTHROPIC = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_GOOGLE = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_GOOGLE |= {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}


def error_object(provider: str, status: int, message: str) -> JsonObject:
    """An error in the shape of ``provider``."""
    match provider:
        case "anthropic":
            return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": message}}
        case "google":
            return {"error": {"code": status, "message": message, "status": _GOOGLE.get(status, "INTERNAL")}}
        case "openrouter":
            return {"error": {"code": status, "message": message}}
        case "fal":
            return {"detail": message}
        case "bedrock":
            return {"message": message}
        case "ollama":
            return {"error": message}
        case _:
            name = "server_error" if status >= 500 else "invalid_request_error"
            return {"error": {"message": message, "type": name, "param": None, "code": None}}


def error_answer(provider: str, status: int, message: str) -> bytes:
    """The same as bytes."""
    return dump(error_object(provider, status, message))
