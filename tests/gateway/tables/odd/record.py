"""Ask a real Postfix what tests/gateway/tables/odd/keys.json asks, and write down its answers: golden.json.

    python -m tests.gateway.tables.odd.record

Each answer is [value], [] for not found, or the error's text; "warnings" are what is said when the table is opened.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
POSTMAP = "/usr/sbin/postmap"


def ask(spec: str, key: str, directory: str) -> tuple[object, list[str]]:
    done = subprocess.run(
        [POSTMAP, "-c", directory, "-q", key, spec], capture_output=True, cwd=HERE,
        env={"GOLDEN": "Environ Value", "MAIL_CONFIG": directory, "PATH": os.environ["PATH"]},
    )  # fmt: skip
    said = [
        re.sub(r"^postmap: (?:warning: |fatal: |error: )?", "", line)
        for line in done.stderr.decode("utf-8", "surrogateescape").splitlines()
    ]
    answer: object = [done.stdout.decode("utf-8", "surrogateescape")[:-1]] if done.returncode == 0 else []
    if done.returncode and "fatal" in done.stderr.decode("utf-8", "replace"):
        answer = said.pop()
    return answer, said


def main() -> None:
    golden: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "main.cf").write_text("compatibility_level = 3.6\nimport_environment = GOLDEN\n")
        subprocess.run([POSTMAP, "-c", directory, "hash:map.hash"], cwd=HERE, check=True, capture_output=True)
        for spec, keys in json.loads((HERE / "keys.json").read_text()).items():
            answers = {key: ask(spec, key, directory) for key in keys}
            warnings = next(iter(answers.values()))[1]
            golden[spec] = {"warnings": warnings, "answers": {key: answer for key, (answer, _) in answers.items()}}
    for index in HERE.glob("map.hash.*"):
        index.unlink()
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
