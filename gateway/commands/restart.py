"""mailgateway restart: see SUMMARY."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.asking import ask

SUMMARY = "start the program anew, after an upgrade, without closing a port"


def main(arguments: list[str], directory: Path | None) -> int:
    return ask("restart", directory)
