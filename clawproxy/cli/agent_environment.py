"""What an agent's environment must hold so that its calls come to the gateway, and must not hold. Pure.

Which client reads which variable was tried with the real clients: Python SDKs, Claude Code
and Codex trust ``SSL_CERT_FILE``; Node needs ``NODE_EXTRA_CA_CERTS``; boto3, requests, curl and git have their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_CA_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO")
_CA_ALONE = ("NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE")
# Of further clients, which read them before those above: where the caller has one, its file does not hold our CA, and
# in a cage need not be there. Where the caller has none, the client finds the system's certificates or those above.
_CA_ELSEWHERE = frozenset(
    {
        "BUNDLE_SSL_CA_CERT",
        "CARGO_HTTP_CAINFO",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "CONDA_SSL_VERIFY",
        "DENO_CERT",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        "HEX_CACERTS_PATH",
        "HTTPLIB2_CA_CERTS",
        "JULIA_SSL_CA_ROOTS_PATH",
        "NIX_SSL_CERT_FILE",
        "NPM_CONFIG_CAFILE",
        "PERL_LWP_SSL_CA_FILE",
        "PIP_CERT",
        "WEBSOCKET_CLIENT_CA_BUNDLE",
        "YARN_HTTPS_CA_FILE_PATH",
    }
)
_LOOPBACK = "127.0.0.1,localhost,::1"

# Credentials and addresses of providers: an agent with its own could go around the gateway, or carry them to it.
_DROPPED = frozenset(
    {
        "ALL_PROXY",
        "ANTHROPIC_API_BASE",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_CUSTOM_HEADERS",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_BEDROCK_RUNTIME_ENDPOINT",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
        "AZURE_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        "AZURE_OPENAI_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAW_BASE_URL",
        "CLAW_TOKEN",
        "CODEX_API_KEY",
        "FAL_KEY",
        "FAL_KEY_ID",
        "FAL_KEY_SECRET",
        "FAL_RUN_HOST",
        "GEMINI_API_BASE",
        "GEMINI_API_KEY",
        "GIT_SSL_CAPATH",
        "GOOGLE_API_KEY",
        "GOOGLE_GEMINI_BASE_URL",
        "GOOGLE_GENAI_USE_ENTERPRISE",
        "GOOGLE_GENAI_USE_VERTEXAI",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "OLLAMA_API_KEY",
        "OPENAI_API_BASE",
        "OPENAI_API_KEY",
        "OPENAI_CUSTOM_HEADERS",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
        "OPENROUTER_API_BASE",
        "OPENROUTER_API_KEY",
        "PERL_LWP_SSL_CA_PATH",
        "SSL_CERT_DIR",
        "all_proxy",
    }
)
# By provider, where SDKs look for its key; the handle stands there.
_KEYS = {
    "openai": ("OPENAI_API_KEY", "CODEX_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GEMINI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY"),
    "ollama": ("OLLAMA_API_KEY",),
    "fal": ("FAL_KEY",),
    # AWS SDKs take no bearer key to a plain http:// address, so the handle is the access key; the secret signs nothing
    # that is looked at. A session token of the agent's own would go with them.
    "bedrock": ("AWS_ACCESS_KEY_ID",),
}
# By provider, where SDKs look for its address, and the path there. fal_client speaks https:// only: it takes the proxy.
_ADDRESSES = {
    "openai": {"OPENAI_BASE_URL": "/openai/v1"},
    "anthropic": {"ANTHROPIC_BASE_URL": "/anthropic"},
    "google": {"GOOGLE_GEMINI_BASE_URL": "/google", "GEMINI_API_BASE": "/google/v1beta"},
    "openrouter": {"OPENROUTER_API_BASE": "/openrouter/api/v1"},
    "azure": {"AZURE_OPENAI_ENDPOINT": "/azure", "AZURE_API_BASE": "/azure"},
    "ollama": {"OLLAMA_HOST": "/ollama", "OLLAMA_API_BASE": "/ollama"},
    "bedrock": {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "/bedrock", "AWS_BEDROCK_RUNTIME_ENDPOINT": "/bedrock"},
}
# litellm writes its key into the URL, which no route takes, unless it is told an address, be it the usual one
_USUAL_ADDRESSES = {"google": {"GEMINI_API_BASE": "https://generativelanguage.googleapis.com/v1beta"}}
_ALWAYS = ("openai", "anthropic")
# By the program's name, the starter contract of the agent.
_STARTERS = {
    "claude": "claude-code",
    "codex": "codex",
    "gemini": "gemini-cli",
    "openclaw": "openclaw",
    "opencode": "opencode",
    "pi": "pi",
}


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
    served: Iterable[str] = (),
    dropped: Iterable[str] = (),
) -> dict[str, str]:
    """The environment for ``program`` (its file name without the path).

    ``reverse`` and ``regular`` are the gateway's addresses, either may be empty; ``bundle_file`` holds the system's
    certificates and the gateway's CA, ``ca_file`` the latter alone. ``served`` are the providers that the gateway has
    a credential for, beside OpenAI and Anthropic; others are not named to the agent, which may choose by what it finds.
    ``dropped`` are further names that must not be passed on, such as those that hold the gateway's own credentials.
    """
    gone = _DROPPED | set(dropped)
    env = {name: value for name, value in base.items() if name not in gone}
    # npm takes its own in either case
    env |= dict.fromkeys([name for name in env if name.upper() in _CA_ELSEWHERE], bundle_file)
    env |= dict.fromkeys(_CA_BUNDLES, bundle_file) | dict.fromkeys(_CA_ALONE, ca_file)
    # by these names a configuration file can refer to them (docs/openclaw.md)
    env |= {"CLAWPROXY_JOB": job_id, "CLAW_TOKEN": handle, **({"CLAW_BASE_URL": reverse} if reverse else {})}
    # otherwise litellm fetches a price list when it is imported, which the gateway refuses
    env["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if regular:
        proxy = regular.replace("://", f"://job:{handle}@", 1)
        for name in ("HTTPS_PROXY", "HTTP_PROXY"):
            env[name] = env[name.lower()] = proxy
    env["NO_PROXY"] = env["no_proxy"] = _LOOPBACK
    for provider in {*_ALWAYS, *served}:
        env |= dict.fromkeys(_KEYS.get(provider, ()), handle)
        if reverse:
            env |= {name: reverse + path for name, path in _ADDRESSES.get(provider, {}).items()}
        else:
            env |= _USUAL_ADDRESSES.get(provider, {})
        if provider == "bedrock":
            env["AWS_SECRET_ACCESS_KEY"] = handle
            env.pop("AWS_SESSION_TOKEN", None)
    _suit(program, env, by_proxy=bool(regular))
    return env


def _suit(program: str, env: dict[str, str], *, by_proxy: bool) -> None:
    """What single agents read in another way than the SDKs; tried with each (tests/agents)."""
    if program == "claude":
        # with a person at its terminal it declares a tool that publishes pages at the provider, for which there is no
        # route; a contract that does not name it would refuse every request
        env.setdefault("CLAUDE_CODE_DISABLE_ARTIFACT", "1")
    if program == "claude" and "ANTHROPIC_BASE_URL" in env:
        # Claude Code asks a person before it uses a key from the environment, and takes an auth token as it is; but
        # with one it asks the provider's own host for features that cannot be judged
        env["ANTHROPIC_AUTH_TOKEN"] = env.pop("ANTHROPIC_API_KEY")
    elif program == "gemini" and by_proxy:
        # with an address in the environment it refuses to start unless its settings say how to sign in there
        env.pop("GOOGLE_GEMINI_BASE_URL", None)
    elif program == "opencode" and "ANTHROPIC_BASE_URL" in env:
        # its SDK wants the version in the address
        env["ANTHROPIC_BASE_URL"] += "/v1"


def without_detours(base: Mapping[str, str]) -> dict[str, str]:
    """``base`` without proxies and addresses of providers: for an agent that reaches each by its name."""
    addresses = {name for names in _ADDRESSES.values() for name in names}
    proxies = {f"{kind}_proxy" for kind in ("http", "https", "all", "no", "ftp", "socks", "ws", "wss")}
    return {name: value for name, value in base.items() if name not in addresses and name.lower() not in proxies}


def starter_for(program: str) -> str:
    """The starter contract for an agent that is known by its program name; anything else is an SDK program."""
    return _STARTERS.get(program, "sdk")
