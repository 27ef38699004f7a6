"""What an agent's environment must hold so that its calls come to the gateway, and must not hold. Pure.

Which client reads which variable was tried with the real clients: Python SDKs, Claude Code
and Codex trust ``SSL_CERT_FILE``; Node needs ``NODE_EXTRA_CA_CERTS``; boto3, requests, curl and git have their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO")
_CA_ALONE = ("NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE")
_LOOPBACK = "127.0.0.1,localhost,::1"

# Credentials and addresses of providers: an agent with its own could go around the gateway, or carry them to it.
_DROPPED = frozenset(
    {
        "ALL_PROXY",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AZURE_OPENAI_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CODEX_API_KEY",
        "FAL_KEY",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "OPENAI_API_KEY",
        "OPENAI_CUSTOM_HEADERS",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENROUTER_API_KEY",
        "SSL_CERT_DIR",
        "all_proxy",
    }
)


def agent_environment(
    base: Mapping[str, str],
    *,
    program: str,
    reverse: str,
    regular: str,
    handle: str,
    job_id: str,
    ca_file: str,
    bundle_file: str,
    dropped: Iterable[str] = (),
) -> dict[str, str]:
    """The environment for ``program`` (its file name without the path).

    ``reverse`` and ``regular`` are the gateway's addresses, either may be empty; ``bundle_file`` holds the system's
    certificates and the gateway's CA, ``ca_file`` the latter alone. ``dropped`` are further names that must not be
    passed on, such as those that hold the gateway's own credentials.
    """
    gone = _DROPPED | set(dropped)
    env = {name: value for name, value in base.items() if name not in gone}
    env |= dict.fromkeys(_CA_BUNDLES, bundle_file) | dict.fromkeys(_CA_ALONE, ca_file)
    env["CLAWPROXY_JOB"] = job_id
    if regular:
        proxy = regular.replace("://", f"://job:{handle}@", 1)
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            env[name] = env[name.lower()] = proxy
    env["NO_PROXY"] = env["no_proxy"] = _LOOPBACK
    if reverse:
        env["OPENAI_BASE_URL"] = f"{reverse}/openai/v1"
        env["ANTHROPIC_BASE_URL"] = f"{reverse}/anthropic"
    env["OPENAI_API_KEY"] = env["CODEX_API_KEY"] = handle
    # Claude Code asks a person before it uses a key from the environment, and takes an auth token as it is
    env["ANTHROPIC_AUTH_TOKEN" if program == "claude" else "ANTHROPIC_API_KEY"] = handle
    return env


def starter_for(program: str) -> str:
    """The starter contract for an agent that is known by its program name; anything else is an SDK program."""
    return {"claude": "claude-code", "codex": "codex", "openclaw": "openclaw"}.get(program, "sdk")
