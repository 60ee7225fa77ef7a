"""mailgateway stop: see SUMMARY."""

from __future__ import annotations

from pathlib import Path

from gateway.commands.asking import ask

SUMMARY = "stop the gateway; running deliveries may end"


def main(arguments: list[str], directory: Path | None) -> int:
    return ask("stop", directory)
