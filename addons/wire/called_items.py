"""Calls of tools as items of the responses API, which tells each one up to five times: as it begins, in pieces, whole
after the pieces, as a whole item, and in the whole response at the end. Pure.

Clients differ in which of these they go by. So what is told again counts as the same call only if it is the same: any
other name, or other arguments than those that came before, are a call of their own.
"""

from __future__ import annotations

from typing import Any

from ...tokens.canonical import JsonObject
from .called import CalledTool
from .reader import ResponseReader, text

_MAX_DEPTH = 64
_WRITTEN = {
    # kind of item: the member that holds its arguments as text
    "function_call": "arguments",
    "mcp_call": "arguments",
    "mcp_approval_request": "arguments",
    "custom_tool_call": "input",
}
_OUTCOME = frozenset({"output", "outputs", "results", "result", "error", "revised_prompt"})
_NOT_ARGUMENTS = _OUTCOME | {"id", "type", "status", "call_id", "namespace", "caller", "created_by"}
"""Of other items: who and where, and what came out."""
_PIECES = {
    # of an event's type: the member with a piece, or with all of it
    "function_call_arguments": "arguments",
    "mcp_call_arguments": "arguments",
    "custom_tool_call_input": "input",
}


_LAST = 8
"""So many calls at one place, or of one id, are looked at."""


class ItemsReader(ResponseReader):
    """Reads the calls among the items of one response.

    A call's key is the place of its item in ``output`` (or the item's id, where an event does not say it), and a
    number.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[object, object] = {}  # the last call that began at a place
        self._told: dict[object, list[object]] = {}  # calls by place, and by their id
        self._number = 0

    def _read_item_event(self, kind: str, told: JsonObject) -> None:
        """An event that is about one item."""
        if "output_item" in kind:
            item = told.get("item")
            if not isinstance(item, dict):
                self.unread = True
            elif kind.endswith(".added"):
                self._item_begins(_place(told, item), item)
            else:
                place = _place(told, item)
                self._item_stands(place, item, self._elsewhere(place, item))
        elif kind.endswith((".delta", ".done")):
            what, _, last = kind.removeprefix("response.").partition(".")
            if (whole := _PIECES.get(what)) is not None:
                self._read_piece(told, whole if last == "done" else "")

    def _read_items(self, output: Any) -> None:
        """The items of a whole response, after the events that told them, or alone."""
        if not isinstance(output, list):
            self.unread = self.unread or output is not None
            return
        used: set[object] = set()
        for n, item in enumerate(output):
            if isinstance(item, dict):
                self._item_stands(n, item, used)

    def _item_begins(self, place: object, item: JsonObject) -> object:
        name = self._called(item)
        if name is None:
            return None
        call = self._another(place, name, given_to(item), free_text=item.get("type") == "custom_tool_call")
        if call is None:
            return None
        self._open[place] = call.key
        for known in (place, _ident(item)):
            if known not in (None, ""):
                self._told.setdefault(known, []).append(call.key)
        return call.key

    def _another(self, place: object, name: str, given: Any, *, free_text: bool) -> CalledTool | None:
        """One more call begins; None where there are too many."""
        key = (place, self._number)
        self._number += 1
        self._begin(key, name, free_text=free_text)
        if (call := self._calls.get(key)) is None:
            return None
        call.give(given)
        return call

    def _read_piece(self, told: JsonObject, whole: str) -> None:
        """Some of the arguments of a call, or all of them in the member ``whole``."""
        place = _place(told, {})
        call = self._calls.get(self._open.get(place))
        piece = told.get(whole or "delta")
        if call is None or call.ended:
            self.unread = True  # arguments of nothing
        elif not isinstance(piece, str):
            self.unread = self.unread or not whole
        elif not whole:
            self._argue(call.key, piece)
        else:
            name = text(told.get("name"))
            same_name = not name or call.name == name or call.name.endswith(f".{name}")
            if not (same_name and _takes(call, piece)):
                other = self._another(place, call.name if same_name else name, piece, free_text=call.free_text)
                self._end(other and other.key)

    def _item_stands(self, place: object, item: JsonObject, used: set[object]) -> None:
        """An item as a whole; ``used`` are the calls that the same telling has told already."""
        name = self._called(item)
        if name is None:
            return
        given, key = given_to(item), self._open.pop(place, None)
        call = self._calls.get(key)
        if call is not None and not call.ended:
            same = call.name == name and _takes(call, given)
            self._end(key)
            if same:
                used.add(key)
                return
        for known in (place, _ident(item)):
            for told in self._told.get(known, [])[-_LAST:]:
                call = self._calls[told]
                if told not in used and call.name == name and is_same(call, given):
                    used.add(told)
                    self._end(told)
                    return
        key = self._item_begins(place, item)
        used.add(key)
        self._end(key)
        self._open.pop(place, None)

    def _elsewhere(self, place: object, item: JsonObject) -> set[object]:
        """Calls of the item's id that stand at other places: not every server gives each call an id of its own."""
        known = self._told.get(_ident(item), []) if isinstance(place, int) else []
        return {key for key in known if isinstance(key, tuple) and isinstance(key[0], int) and key[0] != place}

    def _read_repeated(self, item: JsonObject) -> None:
        """An item as it joins the conversation, which neither begins nor ends its call; without arguments, it has only
        begun."""
        name, given = self._called(item), given_to(item)
        if name is None or not given:
            return
        known = [self._calls[key] for key in self._told.get(_ident(item), [])[-_LAST:]]
        if not any(call.name == name and is_same(call, given) for call in known):
            self._end(self._item_begins(None, item))

    def _called(self, item: JsonObject) -> str | None:
        if item.get("type") == "reasoning" and item.get("encrypted_content"):
            self.signed_reasoning = True
        return name_called(item)


def name_called(item: JsonObject) -> str | None:
    """The name of the tool that an item calls; None for an item that calls none."""
    kind, name = text(item.get("type")), text(item.get("name"))
    if kind in ("function_call", "custom_tool_call"):
        space = text(item.get("namespace"))
        return f"{space}.{name}" if space else name
    if kind in ("mcp_call", "mcp_approval_request"):
        return f"mcp:{text(item.get('server_label'))}.{name}"
    if kind == "program":
        return "programmatic_tool_calling"
    return kind.removesuffix("_call") if kind.endswith("_call") else None


def _place(told: JsonObject, item: JsonObject) -> object:
    index = told.get("output_index")
    return index if isinstance(index, int) else text(told.get("item_id")) or text(item.get("id")) or None


def _ident(item: JsonObject) -> str:
    return text(item.get("call_id")) or text(item.get("id"))


def given_to(item: JsonObject) -> Any:
    """The arguments of a call: as the model wrote them, or the members of the item that say what is done."""
    member = _WRITTEN.get(text(item.get("type")))
    if member is not None:
        given = item.get(member)
        return "" if given is None else given
    return {key: value for key, value in item.items() if key not in _NOT_ARGUMENTS and value is not None}


def digest_given(item: JsonObject) -> str:
    """The digest of the arguments of a call (``CalledTool.digest_b64u``)."""
    call = CalledTool(None, "", free_text=text(item.get("type")) == "custom_tool_call")
    call.give(given_to(item))
    return call.digest_b64u()


def _takes(call: CalledTool, given: Any) -> bool:
    """Whether ``given`` is what the open ``call`` has come to, or what it grows into; then it is its arguments."""
    if isinstance(given, str):
        if not call.written and call.value is None:
            call.add(given)
            return True
        return is_same(call, given)
    if call.written or not _grows(call.value, given):
        return False
    call.value = given
    return True


def is_same(call: CalledTool, given: Any) -> bool:
    """Whether ``given``, as text or as JSON, are the arguments of ``call``."""
    other = CalledTool(None, "", free_text=call.free_text)
    other.give(given)
    return (call.text == other.text and not call.overlong) or call.digest_b64u() == other.digest_b64u()


def _grows(old: Any, new: Any, depth: int = 0) -> bool:
    """Whether ``old`` is a beginning of ``new``, as items are told before all of them is written."""
    if old == new or old in (None, "", [], {}):
        return True
    if depth > _MAX_DEPTH:
        return False
    if isinstance(old, str) and isinstance(new, str):
        return new.startswith(old)
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _grows(old[key], new[key], depth + 1) for key in old)
    if isinstance(old, list) and isinstance(new, list) and len(old) <= len(new):
        return all(_grows(one, other, depth + 1) for one, other in zip(old, new, strict=False))
    return False
