"""The smallest MCP server: every prompt is of the class `plain`. ``python -m perf.classifier PORT``"""

from __future__ import annotations

import sys

from mcp.server import MCPServer

server = MCPServer("plain", log_level="ERROR")


@server.tool()
async def list_categories() -> list[str]:
    """The classes."""
    return ["plain", "urgent"]


@server.tool(structured_output=False)
async def classify_text(text: str, with_probabilities: bool) -> str:
    """The class of a text, in JSON."""
    return '{"class": "plain", "confidence": 0.9}'


if __name__ == "__main__":
    server.run("streamable-http", port=int(sys.argv[1]), json_response=True)
