"""What stands around the corpus: a contract with every provider and a list of tools' hosts, a resolver, a tool server.

Names under ``.example`` resolve to what their name says, so that the judgement of addresses is in the way of some
cases. Every look-up is kept: nothing may be looked up for a call that is refused before its destination is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..clawproxy.standin_process import Provider
from ..gateway.bed import CONTRACT
from ..gateway.tool_server import ToolServer

REGION = "us-east-1"
HOSTS = {
    "azure": "abuse.openai.azure.com",
    "bedrock": f"bedrock-runtime.{REGION}.amazonaws.com",
    "ollama": "ollama.example",
}
PROVIDERS = ("openai", "anthropic", "google", "openrouter", "azure", "ollama", "fal", "bedrock")
MODELS = {
    "google": "gemini-2.5-flash",
    "bedrock": "us.anthropic.claude-sonnet-5-5-v1:0",
    "ollama": "llama3.2",
    "openrouter": "acme/m",
    "fal": "openrouter/acme/m",
    "openai": "text-embedding-3-small",
}
CRM_SECRET = "crm-secret-of-the-gateway-0123456789"
RESOLVES: dict[str, Sequence[str]] = {
    "localhost": ["127.0.0.1"],
    "loopback.example": ["127.0.0.1"],
    "private.example": ["10.0.0.5"],
    "metadata.example": ["169.254.169.254"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "cgnat.example": ["100.64.0.1"],
    "local6.example": ["fd00::1"],
    "zero.example": ["0.0.0.0"],
    "mixed.example": ["93.184.215.14", "127.0.0.1"],
    "nothing.example": [],
    "a.tools.example": ["10.0.0.6"],
}


@dataclass
class World:
    """The server that tools call, and the names that were looked up."""

    tool: ToolServer
    looked_up: list[str] = field(default_factory=list)

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.looked_up.append(host)
        if host == "127.0.0.1":
            return [host]
        if host not in RESOLVES:
            raise OSError("no such name")
        return RESOLVES[host]

    def contract(self) -> dict[str, Any]:
        here, plain = {"host": "localhost", "port": self.tool.port}, {"host": "localhost", "port": self.tool.plain_port}
        return {
            **CONTRACT,
            "allowed_providers": list(PROVIDERS),
            "allowed_models": [*CONTRACT["allowed_models"], *MODELS.values()],
            "egress_allowlist": [
                {**here, "methods": ["GET", "POST"], "paths": ["/v1/*", "/exact", "/caf%C3%A9"]},
                {**here, "paths": ["/own/*"], "client_credentials": True},
                {**here, "paths": ["/crm/*"], "credential": "crm"},
                {**plain, "scheme": "http", "paths": ["/plain"]},
                {"host": "*.tools.example", "paths": ["/*"]},
                *({"host": name, "paths": ["/*"]} for name in RESOLVES if name not in ("localhost", "a.tools.example")),
            ],
        }

    def sections(self, provider: Provider, folder: Path) -> dict[str, Any]:
        """Of the configuration."""
        (folder / "crm").write_text(CRM_SECRET)
        providers: dict[str, Any] = {
            name: {
                "upstream": provider.url,
                "credential": f"file:{provider.key_files[name]}" if name in provider.key_files else "none",
                **({"hosts": [HOSTS[name]]} if name in HOSTS else {}),
            }
            for name in PROVIDERS
        }
        providers["bedrock"]["region"] = REGION
        return {
            "providers": providers,
            "egress": {"crm": {"credential": f"file:{folder / 'crm'}", "hosts": ["localhost"]}},
            "egress_private": [f"localhost:{self.tool.port}", f"localhost:{self.tool.plain_port}"],
        }
