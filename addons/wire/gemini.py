"""Gemini ``generateContent``, ``streamGenerateContent`` and ``countTokens``. Pure.

Request: model and stream stand in the path. ``tools[]`` holds functions (``functionDeclarations[].name``), servers that
the provider calls (``mcpServers`` as ``mcp:<name>`` and ``mcp:<host>``), and tools of the provider by their key, which
are named in its underscored spelling: ``googleSearch`` is the tool ``google_search``. Files of the provider and cached
contents are its state, any other ``fileUri`` is a URL that it fetches. Answer: ``candidates[]``, whole, as server-sent
events or as one JSON array; there is no last event, so an answer has ended when each of its candidates has a
``finishReason`` (or the prompt was blocked).

Usage: ``tokens_input`` is the prompt, cached or not, and what tools of the provider put into it; ``tokens_output`` the
candidates and the thoughts. The figures grow through a stream, the last ones count.

Limits: the model of a tuned model (``tunedModels/…``) has no route. Tools that only Vertex AI has are refused, among
them those that carry a credential of the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import orjson

from ...policies.facts import CallFacts, CallKind
from ...tokens.canonical import JsonObject
from .asked import Asked
from .events import Framing, JsonArrayFraming, SseFraming
from .gemini_rewrite import GeminiRewriter
from .keys import BodyKeys, refuse
from .proto_json import Messages
from .reader import ESCAPED_ASCII, ResponseReader, count, load_object, member, objects, text
from .refusal_text import RefusalText
from .request import WireRequest
from .rewrite import AnswerRewriter

_PROVIDER_TOOLS = (
    "google_search:GoogleSearch google_search_retrieval:GoogleSearchRetrieval code_execution:Empty url_context:Empty"
    " computer_use:ComputerUse google_maps:GoogleMaps file_search:FileSearch enterprise_web_search:EnterpriseWebSearch"
)
_MESSAGES = Messages(
    {
        "CountTokens": "model contents:Content* generate_content_request:GenerateContent",
        "GenerateContent": "model contents:Content* system_instruction:Content tools:Tool* tool_config:ToolConfig"
        " safety_settings:SafetySetting* generation_config:GenerationConfig cached_content continuation_token"
        " labels:any service_tier store",
        "Content": "role parts:Part*",
        "Part": "text thought thought_signature inline_data:Blob file_data:FileData function_call:FunctionCall"
        " function_response:FunctionResponse executable_code:ExecutableCode"
        " code_execution_result:CodeExecutionResult tool_call:ToolCall tool_response:ToolResponse part_metadata:any"
        " video_metadata:VideoMetadata media_resolution:MediaResolution media_processing"
        " audio_transcription:Transcription speech_metadata:SpeechMetadata document_metadata:DocumentMetadata"
        " spreadsheet_metadata:SpreadsheetMetadata audio_metadata:AudioMetadata",
        "Blob": "mime_type data display_name",
        "FileData": "file_uri mime_type display_name",
        "FunctionCall": "id name args:any",
        "FunctionResponse": "id name response:any will_continue scheduling parts:FunctionResponsePart*",
        "FunctionResponsePart": "inline_data:Blob file_data:FileData media_processing"
        " media_resolution:MediaResolution video_metadata:VideoMetadata document_metadata:DocumentMetadata"
        " spreadsheet_metadata:SpreadsheetMetadata audio_metadata:AudioMetadata",
        "ExecutableCode": "id language code",
        "CodeExecutionResult": "id outcome output",
        "ToolCall": "id tool_type args:any",
        "ToolResponse": "id tool_type response:any",
        "VideoMetadata": "start_offset end_offset fps content_layers",
        "MediaResolution": "level num_tokens",
        "Transcription": "text finished language_code speaker_label start_offset end_offset words:any",
        "SpeechMetadata": "speaker style",
        "DocumentMetadata": "start_page end_page content_layers",
        "SpreadsheetMetadata": "visible_cells sheet_index content_layers",
        "AudioMetadata": "start_offset end_offset",
        "Tool": f"function_declarations:FunctionDeclaration* mcp_servers:McpServer* {_PROVIDER_TOOLS}",
        "FunctionDeclaration": "name description behavior parameters:any parameters_json_schema:any response:any"
        " response_json_schema:any",
        "McpServer": "name streamable_http_transport:Transport",
        "Transport": "url headers:any timeout sse_read_timeout terminate_on_close",
        "Empty": "",
        "GoogleSearch": "search_types:SearchTypes time_range_filter:Interval exclude_domains blocking_confidence",
        "SearchTypes": "web_search:Empty image_search:Empty",
        "Interval": "start_time end_time",
        "GoogleSearchRetrieval": "dynamic_retrieval_config:DynamicRetrieval",
        "DynamicRetrieval": "mode dynamic_threshold",
        "ComputerUse": "environment excluded_predefined_functions enable_prompt_injection_detection"
        " disabled_safety_policies",
        "GoogleMaps": "enable_widget grounding_types:any",
        "FileSearch": "file_search_store_names top_k metadata_filter",
        "EnterpriseWebSearch": "exclude_domains blocking_confidence",
        "ToolConfig": "function_calling_config:FunctionCalling retrieval_config:RetrievalConfig"
        " include_server_side_tool_invocations",
        "FunctionCalling": "mode allowed_function_names stream_function_call_arguments",
        "RetrievalConfig": "lat_lng:LatLng language_code",
        "LatLng": "latitude longitude",
        "SafetySetting": "category threshold method",
        "GenerationConfig": "temperature top_p top_k candidate_count max_output_tokens stop_sequences seed"
        " presence_penalty frequency_penalty response_logprobs logprobs response_mime_type response_schema:any"
        " response_json_schema:any response_modalities media_resolution speech_config:SpeechConfig"
        " thinking_config:ThinkingConfig image_config:ImageConfig enable_enhanced_civic_answers"
        " audio_transcription_config:AudioTranscription",
        "SpeechConfig": "language_code voice_config:VoiceConfig multi_speaker_voice_config:Speakers",
        "VoiceConfig": "prebuilt_voice_config:PrebuiltVoice",
        "PrebuiltVoice": "voice_name",
        "Speakers": "speaker_voice_configs:Speaker*",
        "Speaker": "speaker voice_config:VoiceConfig",
        "ThinkingConfig": "include_thoughts thinking_budget thinking_level",
        "ImageConfig": "aspect_ratio image_size",
        "AudioTranscription": "language_codes custom_vocabulary adaptation_phrases word_timestamp diarization mode"
        " source_text",
    }
)
_KEYS = {message: BodyKeys(_MESSAGES.keys(message)) for message in ("CountTokens", "GenerateContent")}
_LIMIT = BodyKeys("max_output_tokens")
_TOOLS_OF_PROVIDER = tuple(entry.partition(":")[0] for entry in _PROVIDER_TOOLS.split())
_MODES = frozenset({"MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"})
_FILE_OF_PROVIDER = re.compile(r"(?:https://generativelanguage\.googleapis\.com/[a-z0-9]+/)?files/[a-z0-9-]+", re.ASCII)
_FETCHED = re.compile(r"https?://(?![^/]*googleapis\.com)[a-z0-9]", re.ASCII | re.IGNORECASE)
_MAX_CANDIDATES = 256
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Gemini:
    """The format ``gemini``."""

    name = "gemini"

    def read_request(self, request: WireRequest) -> CallFacts:
        message = "CountTokens" if request.kind is CallKind.COUNT else "GenerateContent"
        _KEYS[message].check(request.body, "body")
        body = _MESSAGES.read(message, request.body, "body")
        calls = [body]
        if message == "CountTokens" and (inner := body.get("generate_content_request")) is not None:
            calls.append(inner)
        if not any("contents" in call for call in calls) or (message == "GenerateContent" and "contents" not in body):
            refuse("contents", "the field is missing", expected="a list of contents")
        limits = [call.get("generation_config", {}).get("max_output_tokens") for call in calls]
        limit = next((limit for limit in limits if limit is not None), None)
        asked = Asked(replace(request, body={} if limit is None else {"max_output_tokens": limit}), _LIMIT)
        for call in calls:
            _same_model(call.get("model"), request.model)
            _read_call(asked, call)
        counts = [call.get("generation_config", {}).get("candidate_count") for call in calls]
        return asked.facts("max_output_tokens", choices=next((n for n in counts if n is not None), 1))

    def framing(self, content_type: str, *, stream: bool) -> Framing | None:
        if content_type == "text/event-stream":
            return SseFraming()
        return JsonArrayFraming() if stream and content_type == "application/json" else None

    def new_reader(self) -> ResponseReader:
        return _Reader()

    def new_rewriter(self) -> AnswerRewriter | None:
        return GeminiRewriter(self.refusal_body, self.new_reader)

    def refusal_body(self, refusal: RefusalText) -> JsonObject:
        status = _STATUSES.get(refusal.status, "INVALID_ARGUMENT" if refusal.status < 500 else "INTERNAL")
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": refusal.reason,
            "domain": "clawproxy",
            "metadata": {"step": refusal.step, "rule": refusal.rule, "receipt_id": refusal.receipt_id},
        }
        error = {"code": refusal.status, "message": refusal.message, "status": status, "details": [detail]}
        return {"error": {**error, "clawproxy": refusal.marks()}}


def _same_model(stated: object, model: str | None) -> None:
    """A body may repeat the model of the path, as the provider's own resource name too."""
    if stated is not None and (model is None or stated not in (model, f"models/{model}")):
        refuse("model", "the body names another model than the path", expected="no such key, or the same model")


def _read_call(asked: Asked, call: JsonObject) -> None:
    for n, tool in enumerate(call.get("tools", ())):
        _read_tool(asked, tool, f"tools[{n}]")
    calling = call.get("tool_config", {}).get("function_calling_config", {})
    mode, names = calling.get("mode", "AUTO"), calling.get("allowed_function_names", [])
    if not (isinstance(mode, str) and mode in _MODES):
        refuse("tool_config.mode", "a mode that is not known here", expected="AUTO, ANY, NONE or VALIDATED")
    if not isinstance(names, list):
        refuse("tool_config.allowed_function_names", "not a list", type(names).__name__, "a list of names")
    for name in names:
        asked.tool(name, "tool_config.allowed_function_names")
    if mode == "ANY" and len(names) == 1:
        asked.force(names[0], "tool_config.allowed_function_names")
    for key in ("cached_content", "continuation_token"):
        if key in call:
            asked.state(key)
    for content in (*call.get("contents", ()), call.get("system_instruction", {})):
        for part in content.get("parts", ()):
            for piece in (part, *part.get("function_response", {}).get("parts", ())):
                if "file_data" in piece:
                    _read_file(asked, piece["file_data"].get("file_uri"))


def _read_tool(asked: Asked, tool: JsonObject, where: str) -> None:
    for function in tool.get("function_declarations", ()):
        asked.tool(function.get("name"), f"{where}.function_declarations.name")
    for server in tool.get("mcp_servers", ()):
        address = server.get("streamable_http_transport", {}).get("url")
        asked.mcp_server(server.get("name"), address, f"{where}.mcp_servers")
    for name in _TOOLS_OF_PROVIDER:
        if name in tool:
            asked.provider_tool(name, where)
    if tool.get("file_search", {}).get("file_search_store_names"):
        asked.state("file_search_store_names")


def _read_file(asked: Asked, uri: object) -> None:
    """A file that the provider holds, or one that it fetches; where that is not certain, both."""
    if isinstance(uri, str) and _FILE_OF_PROVIDER.fullmatch(uri):
        asked.state("file_uri")
        return
    asked.url(uri, "file_uri")
    if not (isinstance(uri, str) and (uri[:5].lower() == "data:" or _FETCHED.match(uri))):
        asked.state("file_uri")


_MAX_LOOKUPS = 1024
_IN_PIECES = frozenset({"partialArgs", "willContinue"})
"""Of a call whose arguments come in pieces, which only Vertex AI sends, and only if it is asked to."""


class _Reader(ResponseReader):
    markers = re.compile(
        rb"usageMetadata|modelVersion|finishReason|blockReason|functionCall|toolCall|executableCode|groundingMetadata"
        rb'|urlContextMetadata|thoughtSignature|error"|' + ESCAPED_ASCII
    )

    def __init__(self) -> None:
        super().__init__()
        self._finished: dict[int, bool] = {}  # by candidate
        self._blocked = False
        self._counts: dict[str, int] = {}
        self._number = 0
        self._looked_up: set[tuple[int, str, str]] = set()

    def on_event(self, event: str, data: bytes) -> bool:
        if not self.markers.search(data):
            return False
        chunk = load_object(data)
        if chunk is None:
            self.unread = True
            return False
        self._read_answer(chunk)
        if chunk.get("error"):
            self.failed = True
        self.ended = self.failed or self._blocked or (bool(self._finished) and all(self._finished.values()))
        return self.ended

    def read_json(self, body: bytes) -> None:
        """An error of a stream that was asked for as an array comes as an array of one."""
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if not (isinstance(answer, list) and answer and all(isinstance(chunk, dict) for chunk in answer)):
            super().read_json(body)
            return
        for chunk in answer:
            self._read_answer(chunk)
            self.failed = self.failed or bool(chunk.get("error"))
        self.ended = True

    def _read_answer(self, answer: JsonObject) -> None:
        self._read_model(answer.get("modelVersion"))
        self._read_usage(member(answer, "usageMetadata"))
        if member(answer, "promptFeedback").get("blockReason"):
            self._blocked = True
        for place, candidate in enumerate(self._in_list(answer.get("candidates"))):
            index = candidate.get("index", place)
            self._read_candidate(index if isinstance(index, int) else place, candidate)

    def _read_usage(self, usage: JsonObject) -> None:
        for key in (
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "cachedContentTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
        ):
            if (tokens := count(usage.get(key))) is not None:
                self._counts[key] = tokens
                self.usage_known = True
        told = self._counts.get
        self.tokens_input = told("promptTokenCount", 0) + told("toolUsePromptTokenCount", 0)
        self.tokens_output = told("candidatesTokenCount", 0) + told("thoughtsTokenCount", 0)
        self.tokens_cached = told("cachedContentTokenCount", 0)
        self.tokens_reasoning = told("thoughtsTokenCount", 0)

    def _read_candidate(self, index: int, candidate: JsonObject) -> None:
        if index not in self._finished and len(self._finished) >= _MAX_CANDIDATES:
            self.unread = True
            return
        finished = text(candidate.get("finishReason")) not in ("", "FINISH_REASON_UNSPECIFIED")
        self._finished[index] = finished or self._finished.get(index, False)
        for part in self._in_list(member(candidate, "content").get("parts")):
            self.signed_reasoning = self.signed_reasoning or bool(part.get("thoughtSignature"))
            for name, given in called_in(part):
                self._tell(index, name, given)
            if set(member(part, "functionCall")) & _IN_PIECES:
                self.unread = True
        searches = member(candidate, "groundingMetadata").get("webSearchQueries")
        self._read_lookups(index, "google_search", searches if isinstance(searches, list) else [])
        fetched = objects(member(candidate, "urlContextMetadata").get("urlMetadata"))
        self._read_lookups(index, "url_context", [one.get("retrievedUrl", "") for one in fetched])

    def _tell(self, index: int, name: str, given: object) -> None:
        self._whole((index, self._number), name, given, choice=index)
        self._number += 1

    def _read_lookups(self, index: int, name: str, asked_for: list[object]) -> None:
        """What a tool of the provider was asked: it is told with the answer, again with each chunk, and may grow."""
        new = [word for word in asked_for if isinstance(word, str) and (index, name, word) not in self._looked_up]
        if len(self._looked_up) > _MAX_LOOKUPS:
            self.more_calls = True
        elif new:
            self._looked_up.update((index, name, word) for word in new)
            self._tell(index, name, {"asked": new})


def called_in(part: JsonObject) -> Iterator[tuple[str, object]]:
    """The calls that a part of an answer makes: the name of the tool, and its arguments."""
    if isinstance(call := part.get("functionCall"), dict):
        yield text(call.get("name")), call.get("args")
    if isinstance(hosted := part.get("toolCall"), dict):
        yield text(hosted.get("toolType")).lower(), hosted.get("args")
    if code := member(part, "executableCode"):
        yield "code_execution", code
