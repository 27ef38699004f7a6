"""OpenClaw's configuration beside a contract: rendered from it (``render``), and compared with it (``compare``)."""
