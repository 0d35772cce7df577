"""A directory of tenants as an MCP server: which adapter serves whom.

    python config/tenants/server.py --database tenants.db --seed 1000 --port 8750

It answers the router's `classify_text` with the class `tenant` and the tenant's adapter, or `unknown_tenant`. The
tenant comes from the `x-tenant-id` header that the router passes on; the text of the prompt is not looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sqlite3
from pathlib import Path
from typing import Any

from mcp.server import MCPServer

TABLE = """
CREATE TABLE IF NOT EXISTS tenants (
    tenant TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    adapter TEXT NOT NULL,
    use_reasoning INTEGER,          -- 1, 0, or NULL: as the routing table says
    trial_adapter TEXT,             -- the other arm of an A/B test
    trial_share REAL NOT NULL DEFAULT 0
)
"""


class Directory:
    """The table of tenants. A lookup takes some microseconds, so it may run on the event loop."""

    def __init__(self, path: Path) -> None:
        self._rows = sqlite3.connect(path, isolation_level=None)
        # Others may change the table meanwhile (`sqlite3 tenants.db "UPDATE …"`); readers then need not wait.
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.execute(TABLE)

    def seed(self, count: int, model: str) -> None:
        """Add `tenant-0001` and so on, each with an adapter of the same name; those that are there stay as they are."""
        names = [f"tenant-{number:04}" for number in range(1, count + 1)]
        self._rows.execute("BEGIN")
        self._rows.executemany(
            "INSERT OR IGNORE INTO tenants (tenant, model, adapter) VALUES (?, ?, ?)",
            [(name, model, name) for name in names],
        )
        self._rows.execute("COMMIT")

    def classify(self, tenant: str, conversation: str) -> dict[str, Any]:
        """The answer of `classify_text`. In an A/B test a conversation keeps its arm; requests without one do not."""
        row = self._rows.execute(
            "SELECT model, adapter, use_reasoning, trial_adapter, trial_share FROM tenants WHERE tenant = ?", (tenant,)
        ).fetchone()
        if row is None:
            return {"class": "unknown_tenant", "confidence": 1.0}
        model, adapter, reasoning, trial, share = row
        if trial and _drawn(tenant, conversation) < share:
            adapter = trial
        answer = {"class": "tenant", "confidence": 1.0, "model": model, "adapter": adapter}
        return answer if reasoning is None else answer | {"use_reasoning": bool(reasoning)}


def _drawn(tenant: str, conversation: str) -> float:
    """A number in [0, 1), always the same for the same conversation."""
    if not conversation:
        return random.random()
    return int.from_bytes(hashlib.sha256(f"{tenant}/{conversation}".encode()).digest()[:8], "big") / 2**64


def build(directory: Directory) -> MCPServer:
    server = MCPServer("tenants", log_level="WARNING")

    # `async`, although nothing is awaited: the SDK runs plain functions in threads, which costs more than the lookup.
    @server.tool()
    async def list_categories() -> dict[str, Any]:
        """The classes that classify_text answers."""
        return {
            "categories": [
                {"name": "tenant", "description": "A tenant that has an adapter"},
                {"name": "unknown_tenant", "description": "No tenant was named, or one that is not in the table"},
            ]
        }

    @server.tool()
    async def classify_text(
        text: str, with_probabilities: bool = False, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Which tenant is asking, and which adapter serves it."""
        given = headers or {}
        return directory.classify(given.get("x-tenant-id", ""), given.get("x-session-id", ""))

    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--database", type=Path, default=Path("tenants.db"), help="SQLite file, made if missing")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="add N example tenants")
    parser.add_argument("--model", default="llama3-8b", help="base model of the example tenants")
    parser.add_argument("--port", type=int, default=8750, help="port on 127.0.0.1; the address is /mcp")
    parser.add_argument("--stdio", action="store_true", help="speak over standard input and output")
    arguments = parser.parse_args()
    directory = Directory(arguments.database)
    directory.seed(arguments.seed, arguments.model)
    server = build(directory)
    if arguments.stdio:
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=arguments.port, stateless_http=True, json_response=True)


if __name__ == "__main__":
    main()
