"""``python -m clawproxy.standin``."""

from .server import main

if __name__ == "__main__":
    main()
