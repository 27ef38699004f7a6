"""clawproxy: a gateway between AI agents and model providers.

The package is made of folders that stand at the top of the repository (ADR-0001): ``addons`` (the wire),
``receipts`` (what happened), ``policies`` (may it), ``tokens`` (who). Imports run one way, in that order.
"""

__version__ = "0.1.0"
