"""A test bed with every provider of the catalogue in front of the stand-in, and an agent's environment for each way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import certifi

from clawproxy.cli.agent_environment import agent_environment

from ..clawproxy.standin_process import Provider
from .bed import CONTRACT, Bed
from .sdk_drivers import BEDROCK_CLAUDE, CHAT_MODEL, CLAUDE, GEMINI, LLAMA, ROUTED

REGION = "us-east-1"
AZURE_HOST = "test.openai.azure.com"
BEDROCK_HOST = f"bedrock-runtime.{REGION}.amazonaws.com"
# servers of one's own, under names that a proxy is asked for
OLLAMA_HOST, VLLM_HOST = "ollama.example", "vllm.example"
SERVED = ("openai", "anthropic", "google", "openrouter", "azure", "ollama", "vllm", "fal", "bedrock")
WAYS = ("base-url", "https-proxy", "both")
"""``run`` gives both; agents then use the base URL."""

EVERY_CONTRACT: dict[str, Any] = {
    **CONTRACT,
    "allowed_providers": list(SERVED),
    "allowed_models": [CHAT_MODEL, CLAUDE, BEDROCK_CLAUDE, GEMINI, ROUTED, LLAMA],
}


def every_provider(provider: Provider) -> dict[str, Any]:
    """The section ``providers`` of a configuration."""
    keys = {name: f"file:{provider.key_files[name]}" for name in SERVED if name in provider.key_files}
    keys |= {"ollama": "none", "vllm": keys["openai"]}  # what the stand-in wants of them
    sections: dict[str, Any] = {name: {"upstream": provider.url, "credential": keys[name]} for name in SERVED}
    sections["azure"]["hosts"] = [AZURE_HOST]
    sections["ollama"]["hosts"] = [OLLAMA_HOST]
    sections["vllm"]["hosts"] = [VLLM_HOST]
    sections["bedrock"] |= {"hosts": [BEDROCK_HOST], "region": REGION}
    return sections


def environment_for(bed: Bed, way: str, handle: str, home: Path) -> dict[str, str]:
    """What ``clawproxy run`` gives to an agent that knows this way, and nothing of this process but its PATH."""
    reverse = bed.gateway.addresses["reverse"] if way != "https-proxy" else ""
    base = {"PATH": os.environ["PATH"], "HOME": str(home), "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    # what has no variable that SDKs know, and what an agent knows of servers of one's own
    base |= {"VLLM_BASE_URL": f"{reverse or 'https://' + VLLM_HOST}{'/vllm' if reverse else ''}/v1"}
    if reverse:
        base["FAL_BASE_URL"] = f"{reverse}/fal"
    else:
        base |= {"AZURE_OPENAI_ENDPOINT": f"https://{AZURE_HOST}", "OLLAMA_HOST": f"https://{OLLAMA_HOST}"}
        base["OLLAMA_API_BASE"] = f"https://{OLLAMA_HOST}"
    bundle = home / "bundle.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + bed.gateway.ca_file.read_bytes())
    return agent_environment(
        base,
        program="python",
        reverse=reverse,
        regular=bed.gateway.addresses["regular"] if way != "base-url" else "",
        handle=handle,
        job_id="sdk",
        ca_file=str(bed.gateway.ca_file),
        bundle_file=str(bundle),
        served=SERVED,
    )
