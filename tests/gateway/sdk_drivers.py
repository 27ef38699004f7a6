"""An agent made of one real SDK: ``python sdk_drivers.py SDK``, addresses and keys from the environment alone.

It takes each of its forms (a model API that the SDK speaks) through the turns of ``TURNS`` and prints a JSON line per
turn: what came back, or the exception. Nothing of the gateway is imported, so that nothing but the environment leads
there. What to ask is in the words of the stand-in (clawproxy/standin/steering.py).

Limits: a form that has no streams or tools leaves those turns out, which its class says.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

FIGURES = "hello events:4 cached:3 reasoning:5"
SILENT = "hello events:40 no-usage"
CHAT_MODEL = "gpt-4o-mini"
CLAUDE = "claude-sonnet-5-5"
BEDROCK_CLAUDE = "anthropic.claude-sonnet-5-5-20260101-v1:0"
BEDROCK_DENIED = "anthropic.claude-of-nobody-v1:0"  # of Anthropic, since others have bodies of their own
GEMINI = "gemini-2.5-flash"
ROUTED = "openai/gpt-4o-mini"
LLAMA = "llama3.2"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"query": {"type": "string"}}}
RESULT = "ticket 42 is open"
TURNS = ("plain", "stream", "tools", "streamed-tools", "no-usage", "denied-tool", "denied-model")


def say(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


class Form:
    """One model API as one SDK speaks it."""

    name = ""
    model = CHAT_MODEL
    denied_model = "model-of-nobody"
    streams = True
    tools = True
    silent = True
    """Whether the SDK can read a stream without usage."""

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        """The text of an answer."""
        raise NotImplementedError

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        """The model calls ``ticket_read``, gets its result and answers: name, arguments and the last text."""
        raise NotImplementedError

    def turns(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        yield "plain", lambda: self.ask(FIGURES)
        if self.streams:
            yield "stream", lambda: self.ask(FIGURES, stream=True)
        if self.streams and self.silent:
            yield "no-usage", lambda: self.ask(SILENT, stream=True)
        if self.tools:
            yield "tools", lambda: self.use_tool(stream=False)
            yield "denied-tool", lambda: self.ask("hello", tool="Bash")
        if self.tools and self.streams:
            yield "streamed-tools", lambda: self.use_tool(stream=True)
        yield "denied-model", lambda: self.ask("hello", model=self.denied_model)


# -- OpenAI's package --------------------------------------------------------------------------------------------


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "reads a ticket", "parameters": SCHEMA}}


class Chat(Form):
    """Chat completions of anybody who speaks OpenAI's API."""

    def __init__(self, name: str, client: Any, model: str = CHAT_MODEL) -> None:
        self.name, self.client, self.model = name, client, model

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        more |= {"tools": [function(tool)]} if tool else {}
        answer = self.client.chat.completions.create(model=model or self.model, messages=say(text), **more)
        if stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        return str(answer.choices[0].message.content)

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        create, messages = self.client.chat.completions.create, say("use-a-tool")
        base = {"model": self.model, "tools": [function("ticket_read")]}
        if stream:
            called = _put_together(create(**base, messages=messages, stream=True, **_WITH_USAGE))
        else:
            message = create(**base, messages=messages).choices[0].message
            called = message.model_dump(exclude_none=True)
        call = called["tool_calls"][0]
        result = {"role": "tool", "tool_call_id": call["id"], "content": RESULT}
        last = create(**base, messages=[*messages, called, result])
        return call["function"]["name"], json.loads(call["function"]["arguments"]), last.choices[0].message.content


_WITH_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


def _put_together(chunks: Any) -> dict[str, Any]:
    """The assistant's message with its first call, from the deltas."""
    call: dict[str, Any] = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    for chunk in chunks:
        for delta in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            call["id"] = delta.id or call["id"]
            call["function"]["name"] = delta.function.name or call["function"]["name"]
            call["function"]["arguments"] += delta.function.arguments or ""
    return {"role": "assistant", "content": "", "tool_calls": [call]}


class Responses(Form):
    """The responses API."""

    def __init__(self, name: str, client: Any, model: str = CHAT_MODEL) -> None:
        self.name, self.client, self.model = name, client, model

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        more: Any = {"tools": [_response_tool(tool)]} if tool else {}
        base = {"model": model or self.model, "input": text, **more}
        if not stream:
            return str(self.client.responses.create(**base).output_text)
        with self.client.responses.stream(**base) as events:
            return str(events.get_final_response().output_text)

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        base = {"model": self.model, "tools": [_response_tool("ticket_read")], "store": False}
        first = {"role": "user", "content": "use-a-tool"}
        if stream:
            with self.client.responses.stream(**base, input=[first]) as events:
                answer = events.get_final_response()
        else:
            answer = self.client.responses.create(**base, input=[first])
        call = next(item for item in answer.output if item.type == "function_call")
        said = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
        last = self.client.responses.create(**base, input=[first, said, result])
        return call.name, json.loads(call.arguments), last.output_text


def _response_tool(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": SCHEMA, "strict": False}


def openai_forms() -> Iterator[Form]:
    import openai

    env = os.environ
    own = openai.OpenAI()
    yield Chat("openai/chat", own)
    yield Responses("openai/responses", own)
    base = env.get("OPENROUTER_API_BASE", "https://openrouter.ai/api/v1")
    yield Chat("openrouter/chat", openai.OpenAI(base_url=base, api_key=env["OPENROUTER_API_KEY"]), ROUTED)
    azure = openai.AzureOpenAI(api_version="2026-01-01")
    yield Chat("azure/chat", azure)
    yield Responses("azure/responses", azure)
    yield Chat("vllm/chat", openai.OpenAI(base_url=env["VLLM_BASE_URL"]), LLAMA)
    # fal wants its own word before the key
    fal = openai.OpenAI(
        base_url=env.get("FAL_BASE_URL", "https://fal.run") + "/openrouter/router/openai/v1",
        default_headers={"Authorization": f"Key {env['FAL_KEY']}"},
    )
    yield Chat("fal/chat", fal, ROUTED)
    yield Responses("fal/responses", fal, ROUTED)


# -- Anthropic's package -----------------------------------------------------------------------------------------


class Messages(Form):
    """The messages API, at Anthropic or at Bedrock."""

    def __init__(self, name: str, client: Any, model: str = CLAUDE, denied_model: str = Form.denied_model) -> None:
        self.name, self.client, self.model, self.denied_model = name, client, model, denied_model

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        more: Any = {"tools": [{"name": tool, "input_schema": SCHEMA}]} if tool else {}
        base = {"model": model or self.model, "max_tokens": 100, "messages": say(text), **more}
        answer = self.client.messages.create(**base, stream=stream)
        if not stream:
            return str(answer.content[0].text)
        return "".join(event.delta.text for event in answer if event.type == "content_block_delta")

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        tools = [{"name": "ticket_read", "input_schema": SCHEMA}]
        base, messages = {"model": self.model, "max_tokens": 100, "tools": tools}, say("use-a-tool")
        if stream:
            with self.client.messages.stream(**base, messages=messages) as events:
                answer = events.get_final_message()
        else:
            answer = self.client.messages.create(**base, messages=messages)
        call = next(block for block in answer.content if block.type == "tool_use")
        said = {"role": "assistant", "content": answer.content}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT}]}
        last = self.client.messages.create(**base, messages=[*messages, said, result])
        return call.name, call.input, last.content[0].text


def anthropic_forms() -> Iterator[Form]:
    import anthropic

    yield Messages("anthropic/messages", anthropic.Anthropic())
    bedrock = anthropic.AnthropicBedrock(
        aws_access_key=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        aws_region=os.environ["AWS_REGION"],
        base_url=os.environ.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),
    )
    yield Messages("bedrock/messages", bedrock, BEDROCK_CLAUDE, BEDROCK_DENIED)


# -- google-genai ------------------------------------------------------------------------------------------------


class Gemini(Form):
    """generateContent."""

    name, model = "google/generate", GEMINI

    def __init__(self) -> None:
        from google import genai

        self.client = genai.Client()  # closes itself when nothing holds it
        self.models = self.client.models

    @staticmethod
    def _tools(name: str) -> dict[str, Any]:
        declared = [{"name": name, "parameters_json_schema": SCHEMA}]
        return {"tools": [{"function_declarations": declared}], "automatic_function_calling": {"disable": True}}

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        base: Any = {"model": model or self.model, "contents": text, "config": self._tools(tool) if tool else None}
        if stream:
            return "".join(chunk.text or "" for chunk in self.models.generate_content_stream(**base))
        return str(self.models.generate_content(**base).text)

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        first = {"role": "user", "parts": [{"text": "use-a-tool"}]}
        base: Any = {"model": self.model, "config": self._tools("ticket_read")}
        if stream:
            chunks = list(self.models.generate_content_stream(**base, contents=[first]))
            answer = next(chunk for chunk in chunks if chunk.function_calls)
        else:
            answer = self.models.generate_content(**base, contents=[first])
        call: Any = (answer.function_calls or [])[0]
        said = (answer.candidates or [])[0].content
        result = {"function_response": {"name": call.name, "response": {"found": RESULT}}}
        last = self.models.generate_content(**base, contents=[first, said, {"role": "user", "parts": [result]}])
        return call.name, call.args, str(last.text)


def google_forms() -> Iterator[Form]:
    yield Gemini()


# -- boto3 -------------------------------------------------------------------------------------------------------


class Converse(Form):
    """Bedrock's converse."""

    name, model, denied_model = "bedrock/converse", BEDROCK_CLAUDE, BEDROCK_DENIED

    def __init__(self, client: Any) -> None:
        self.client = client

    @staticmethod
    def _tools(name: str) -> dict[str, Any]:
        return {"toolConfig": {"tools": [{"toolSpec": {"name": name, "inputSchema": {"json": SCHEMA}}}]}}

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        messages = [{"role": "user", "content": [{"text": text}]}]
        base = {"modelId": model or self.model, "messages": messages, **(self._tools(tool) if tool else {})}
        if not stream:
            return str(self.client.converse(**base)["output"]["message"]["content"][0]["text"])
        events = self.client.converse_stream(**base)["stream"]
        return "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        messages = [{"role": "user", "content": [{"text": "use-a-tool"}]}]
        base = {"modelId": self.model, **self._tools("ticket_read")}
        if stream:
            call: Any = {}
            written = ""
            for event in self.client.converse_stream(**base, messages=messages)["stream"]:
                call = event.get("contentBlockStart", {}).get("start", {}).get("toolUse", call)
                written += event.get("contentBlockDelta", {}).get("delta", {}).get("toolUse", {}).get("input", "")
            call["input"] = json.loads(written)
        else:
            answer = self.client.converse(**base, messages=messages)
            call = next(part["toolUse"] for part in answer["output"]["message"]["content"] if "toolUse" in part)
        result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": RESULT}], "status": "success"}}
        said = {"role": "assistant", "content": [{"toolUse": call}]}
        last = self.client.converse(**base, messages=[*messages, said, {"role": "user", "content": [result]}])
        return call["name"], call["input"], last["output"]["message"]["content"][0]["text"]


class Invoke(Form):
    """Bedrock's invoke with Anthropic's body."""

    name, model, denied_model = "bedrock/invoke", BEDROCK_CLAUDE, BEDROCK_DENIED

    def __init__(self, client: Any) -> None:
        self.client = client

    def _send(self, messages: list[Any], *, stream: bool, model: str = "", tool: str = "") -> list[Any]:
        """The events of a stream, or the one answer."""
        asked = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": messages}
        asked |= {"tools": [{"name": tool, "input_schema": SCHEMA}]} if tool else {}
        base = {"modelId": model or self.model, "body": json.dumps(asked)}
        if not stream:
            return [json.loads(self.client.invoke_model(**base)["body"].read())]
        events = self.client.invoke_model_with_response_stream(**base)["body"]
        return [json.loads(event["chunk"]["bytes"]) for event in events]

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        answers = self._send(say(text), stream=stream, model=model, tool=tool)
        if not stream:
            return str(answers[0]["content"][0]["text"])
        return "".join(a["delta"].get("text", "") for a in answers if a["type"] == "content_block_delta")

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        answers = self._send(say("use-a-tool"), stream=stream, tool="ticket_read")
        if stream:
            call = next(a["content_block"] for a in answers if a["type"] == "content_block_start")
            written = "".join(a["delta"]["partial_json"] for a in answers if a["type"] == "content_block_delta")
            call = {**call, "input": json.loads(written)}
        else:
            call = answers[0]["content"][0]
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": RESULT}
        turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
        last = self._send([*say("use-a-tool"), *turns], stream=False, tool="ticket_read")
        return call["name"], call["input"], last[0]["content"][0]["text"]


def boto3_forms() -> Iterator[Form]:
    import boto3

    client = boto3.client("bedrock-runtime")
    yield Converse(client)
    yield Invoke(client)


# -- ollama ------------------------------------------------------------------------------------------------------


class Ollama(Form):
    """/api/chat."""

    name, model = "ollama/chat", LLAMA

    def __init__(self) -> None:
        import ollama

        self.client: Any = ollama.Client()

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        more: Any = {"tools": [function(tool)]} if tool else {}
        answer = self.client.chat(model=model or self.model, messages=say(text), stream=stream, **more)
        return "".join(line.message.content for line in answer) if stream else str(answer.message.content)

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        base, messages = {"model": self.model, "tools": [function("ticket_read")]}, say("use-a-tool")
        answer = self.client.chat(**base, messages=messages, stream=stream)
        said = next(line.message for line in answer if line.message.tool_calls) if stream else answer.message
        call = said.tool_calls[0].function
        result = {"role": "tool", "content": RESULT, "tool_name": call.name}
        last = self.client.chat(**base, messages=[*messages, said, result])
        return call.name, dict(call.arguments), last.message.content


class OllamaGenerate(Form):
    """/api/generate."""

    name, model, tools = "ollama/generate", LLAMA, False

    def __init__(self, client: Any) -> None:
        self.client = client

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        answer = self.client.generate(model=model or self.model, prompt=text, stream=stream)
        return "".join(line.response for line in answer) if stream else str(answer.response)


def ollama_forms() -> Iterator[Form]:
    chat = Ollama()
    yield chat
    yield OllamaGenerate(chat.client)


# -- fal_client --------------------------------------------------------------------------------------------------


class FalRouter(Form):
    """fal's own route: one prompt, one text."""

    name, model, streams, tools = "fal/router", ROUTED, False, False

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        import fal_client

        answer = fal_client.run("openrouter/router", arguments={"prompt": text, "model": model or self.model})
        return str(answer["output"])


def fal_forms() -> Iterator[Form]:
    from fal_client import client

    if base := os.environ.get("FAL_BASE_URL"):
        client.RUN_URL_FORMAT = base + "/"  # a constant: fal_client can be told another host, but not http://
    yield FalRouter()


# -- litellm -----------------------------------------------------------------------------------------------------


class Lite(Form):
    """One of litellm's providers."""

    def __init__(self, name: str, prefix: str, model: str, *, silent: bool = True) -> None:
        self.name, self.prefix, self.model, self.silent = name, prefix, model, silent
        self.denied_model = BEDROCK_DENIED if model == BEDROCK_CLAUDE else Form.denied_model

    def _complete(self, messages: list[Any], model: str = "", **more: Any) -> Any:
        import litellm

        named = f"{self.prefix}/{model or self.model}"
        return litellm.completion(**{"model": named, "messages": messages, "max_retries": 0, **more})

    def ask(self, text: str, *, stream: bool = False, model: str = "", tool: str = "") -> str:
        more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        more |= {"tools": [function(tool)]} if tool else {}
        answer = self._complete(say(text), model, **more)
        if stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        return str(answer.choices[0].message.content)

    def use_tool(self, *, stream: bool) -> tuple[str, Any, str]:
        base: dict[str, Any] = {"tools": [function("ticket_read")]}
        messages = say("use-a-tool")
        if stream:
            said = _put_together(self._complete(messages, **base, stream=True, **_WITH_USAGE))
        else:
            said = self._complete(messages, **base).choices[0].message.model_dump(exclude_none=True)
        call = said["tool_calls"][0]
        result = {"role": "tool", "tool_call_id": call["id"], "content": RESULT}
        last = self._complete([*messages, said, result], **base)
        return call["function"]["name"], json.loads(call["function"]["arguments"]), last.choices[0].message.content


def litellm_forms() -> Iterator[Form]:
    import litellm

    litellm.suppress_debug_info = True
    yield Lite("openai/chat", "openai", CHAT_MODEL)
    yield Lite("anthropic/messages", "anthropic", CLAUDE, silent=False)  # it wants a usage in message_delta
    yield Lite("google/generate", "gemini", GEMINI)
    yield Lite("openrouter/chat", "openrouter", ROUTED)
    yield Lite("ollama/chat", "ollama_chat", LLAMA)
    yield Lite("bedrock/converse", "bedrock/converse", BEDROCK_CLAUDE)


# ----------------------------------------------------------------------------------------------------------------

SDKS: dict[str, Callable[[], Iterator[Form]]] = {
    "openai": openai_forms,
    "anthropic": anthropic_forms,
    "google-genai": google_forms,
    "boto3": boto3_forms,
    "ollama": ollama_forms,
    "fal_client": fal_forms,
    "litellm": litellm_forms,
}


def main(sdk: str) -> None:
    """Every form and turn of ``sdk``, one after the other, and one line for each."""
    for form in SDKS[sdk]():
        for turn, work in form.turns():
            line: dict[str, Any] = {"form": form.name, "turn": turn}
            try:
                line["got"] = work()
            except Exception as err:
                line |= {"error": [kind.__name__ for kind in type(err).__mro__], "message": str(err)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
