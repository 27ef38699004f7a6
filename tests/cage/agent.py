"""An agent for tests: any python3 runs it, and it uses nothing but the standard library."""

import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.request


def ask(url: str, body: object) -> str:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    request.add_header("content-type", "application/json")
    request.add_header("authorization", "Bearer " + os.environ["OPENAI_API_KEY"])
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return f"{answer.status} {len(answer.read()) > 0}"
    except urllib.error.HTTPError as err:
        return f"{err.code} {err.headers.get('x-clawproxy-reason')}"


def look_up(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, 443)[0][4][0])
    except OSError as err:
        return type(err).__name__


SAY = [{"role": "user", "content": "hello"}]
CHAT = "https://api.openai.com/v1/chat/completions"
print(
    json.dumps(
        {
            "allowed": ask(CHAT, {"model": "gpt-4o-mini", "messages": SAY}),
            "refused": ask(CHAT, {"model": "gpt-99", "messages": SAY}),
            "telemetry": look_up("telemetry.example.com"),
            "openai": look_up("api.openai.com"),
            "ca": ssl.get_default_verify_paths().cafile,
            "env": dict(os.environ),
            "uid": os.getuid(),
            "cwd": os.getcwd(),
            "input": sys.stdin.read(),
        }
    )
)
sys.exit(7)
