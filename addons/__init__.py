"""The wire: mitmproxy hooks, provider formats, listeners. Flows in, decisions out."""
