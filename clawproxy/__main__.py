"""``python -m clawproxy`` is the ``clawproxy`` command."""

from clawproxy.cli import main

if __name__ == "__main__":
    main()
