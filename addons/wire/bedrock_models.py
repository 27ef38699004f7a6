"""What Bedrock's formats share: names of models that say more than a model, and errors in AWS's shape. Pure."""

from __future__ import annotations

from ...policies.routers import bedrock_arn_kind, is_bedrock_router
from ...tokens.canonical import JsonObject
from .asked import Asked
from .keys import refuse
from .refusal_text import RefusalText

_MODEL_ARNS = frozenset(
    {
        "application-inference-profile",
        "custom-model",
        "custom-model-deployment",
        "foundation-model",
        "imported-model",
        "inference-profile",
        "provisioned-model",
    }
)
_ERRORS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def read_model(asked: Asked, model: str | None) -> None:
    """Note what the model of the path stands for: a router, or a prompt that is stored at Bedrock."""
    if model is None or ":" not in model or not model.lower().startswith("arn:"):
        return
    kind = bedrock_arn_kind(model)
    if is_bedrock_router(model):
        asked.router()
    elif kind == "prompt":
        asked.state("prompt")
    elif kind not in _MODEL_ARNS:
        refuse("model", "an ARN that is not known to be a model's", expected="the ARN of a model or a profile")


def aws_error(refusal: RefusalText) -> JsonObject:
    """AWS's SDKs take the name of their exception from ``__type``, and the text from ``message``."""
    kind = _ERRORS.get(refusal.status, "ValidationException" if refusal.status < 500 else "InternalServerException")
    return {
        "message": refusal.message,
        "__type": kind,
        "error": {"type": kind, "message": refusal.message, "clawproxy": refusal.marks()},
    }
