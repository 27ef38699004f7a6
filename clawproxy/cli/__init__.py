"""The commands, one module per noun."""


def main() -> None:
    """Run the ``clawproxy`` command."""
    raise SystemExit(2)
