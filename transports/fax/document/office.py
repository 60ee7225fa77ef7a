"""Office files to PDF, by LibreOffice when it is there.

It runs without a window, with a profile of its own in the worker's folder, inside the worker's limits.  Macros do not
run in a conversion.  Raises BadFile with a reason for people.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path

ENDINGS = {
    "application/msword": "doc", "application/vnd.ms-excel": "xls", "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt", "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp", "application/rtf": "rtf",
}
PROGRAMS = ("soffice", "libreoffice")
_FOLDERS = ("/etc/libreoffice", "/var/lib/libreoffice", "/var/spool/libreoffice", "/proc")


class BadFile(Exception):
    """A reason for people."""


def program() -> str:
    """Where it is; "" if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None) or ""


def folders() -> list[str]:
    """What it reads beside what everybody does."""
    return [str(Path(program()).resolve().parents[1]), *_FOLDERS] if program() else []


def to_pdf(data: bytes, kind: str, folder: Path) -> bytes:
    """``kind``: a type of ENDINGS."""
    if not program():
        raise BadFile("files of office programs are not drawn here (there is no LibreOffice)")
    source = folder / f"office.{ENDINGS[kind]}"
    source.write_bytes(data)
    result = source.with_suffix(".pdf")
    result.unlink(missing_ok=True)
    command = [
        program(), f"-env:UserInstallation=file://{folder}/office", "--headless", "--norestore", "--nolockcheck",
        "--convert-to", "pdf", "--outdir", str(folder), str(source),
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, preexec_fn=_more_memory)
    try:
        return result.read_bytes()
    except FileNotFoundError:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        said = [line.strip() for line in lines if line.strip() and not line.startswith("Warning:")]
        raise BadFile(f"LibreOffice cannot read it ({(said or [f'status {done.returncode}'])[-1]})") from None
    finally:
        source.unlink(missing_ok=True)


def _more_memory() -> None:
    """It reserves far more addresses than it uses: up to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
