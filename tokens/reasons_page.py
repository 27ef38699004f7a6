"""docs/reason-codes.md, made from the table of ``tokens.reasons``: ``python -m clawproxy.tokens.reasons_page``."""

from __future__ import annotations

import sys

from .reasons import REASONS, STEPS, Reason

_HEAD = """\
# Reason codes

<!-- made by: python -m clawproxy.tokens.reasons_page > docs/reason-codes.md -->

Every refusal carries one of these codes: in the body, in the error shape of the provider that was called, in the
signed denial in the job's evidence, and in the log. The code is stable; the words around it may get better. The step is
where a call with this refusal normally ends ([architecture](architecture.md)): nothing after it was done, and no byte
went to the provider. A fault or a time-out names the step in which it happened.

"""


def render_reasons() -> str:
    """The page as Markdown, one table per step, in the order of the steps."""
    return _HEAD + "\n".join(_section(step) for step in STEPS if _rows(step))


def _rows(step: str) -> list[Reason]:
    return [row for row in REASONS.values() if row.step == step]


def _section(step: str) -> str:
    lines = [f"## {STEPS.index(step) + 1} {step}", "", "| code | HTTP | meaning | what to do |", "|---|---|---|---|"]
    lines += [f"| `{row.code}` | {row.status} | {_cell(row.meaning)} | {_cell(row.remedy)} |" for row in _rows(step)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(render_reasons())
