"""mailgateway reload: see SUMMARY."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.asking import ask

SUMMARY = "take up a changed configuration, without closing a connection"


def main(arguments: list[str], directory: Path | None) -> int:
    return ask("reload", directory)
