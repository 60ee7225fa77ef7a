"""mailgateway flush: see SUMMARY; the same as postqueue -f."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.asking import ask

SUMMARY = "try to deliver all deferred mail now"


def main(arguments: list[str], directory: Path | None) -> int:
    return ask("flush", directory)
