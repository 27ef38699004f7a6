"""The whole addon of the stock side: ``mitmdump -s`` with streamed responses, and nothing else."""

from mitmproxy import http


def responseheaders(flow: http.HTTPFlow) -> None:
    assert flow.response is not None
    flow.response.stream = True
