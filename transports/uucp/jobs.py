"""What UUCP says of jobs: which wait, which have been sent, and taking one back.

Asked with UUCP's own programs, run with the rights of the service's account; the Log is read by ourselves.  ``Jobs`` is
asked by the keeper (transports.uucp.keeper), in split mode from another process: ``answer`` takes and gives JSON
values, and refuses with ValueError what is malformed.

    {"do": "list"} → {"jobs": {JOB: SITE}, "busy": [SITE …], "states": {SITE: text}}
    {"do": "trace", "jobs": [[SITE, DATA, since] …]} → {"found": [[moment or 0, the Log goes back so far] …]}
    {"do": "kill", "job"} → {"killed": …}
    {"do": "call", "site"} → {}      if it may be called now
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from transports.process import Command, Ending, Outcome, Runner
from transports.uucp.service import UucpService
from transports.uucp.taylor import is_site

JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,300}\Z")
_DATA = re.compile(r"D\.[A-Za-z0-9]{1,20}\Z")
_LISTED = re.compile(r"(\S+) (\S+) \S+ \d\d-\d\d \d\d:\d\d ")
_STATE = re.compile(r"(\S+) +(?:\d\d-\d\d \d\d:\d\d +)?(.+)")
_MOMENT = re.compile(rb"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_SENDING = re.compile(rb"uucico (\S+) .*\) Sending .*\((D\.\w+)\)")
_LOG_TAIL = 16 * 1024 * 1024
LEEWAY = 3700.0
"""Seconds that the Log may seem to be behind: its times are local ones, and an hour comes twice a year."""
LONGEST_LIST = 16 * 1024 * 1024

InThread = Callable[..., Awaitable[Any]]


class Unknown(Exception):
    """UUCP cannot be asked now."""


class Jobs:
    def __init__(self, service: UucpService, runner: Runner, in_thread: InThread) -> None:
        self._service = service
        self._runner = runner
        self.in_thread = in_thread

    async def answer(self, value: Any) -> dict[str, Any]:
        """Raises ValueError, Unknown."""
        what = value.get("do") if isinstance(value, dict) else None
        if what == "list":
            return await self._list()
        if what == "trace":
            asked = [_traced(one) for one in value.get("jobs", ())]
            return {"found": await self.in_thread(trace, self._service.taylor.log, asked)}
        if what == "kill":
            job = _checked(value, "job", JOB.match)
            outcome = await self._run("uustat", ["-k", job])
            return {"killed": outcome.ending is Ending.EXITED and outcome.code == 0}
        if what == "call":
            await self.call(_checked(value, "site", is_site), at_once=False)
            return {}
        raise ValueError(f"no such question: {what!r}")

    async def call(self, site: str, *, at_once: bool) -> None:
        """Begin a call; uucico goes on by itself.  Unless ``at_once``, only if UUCP's calendar and its pause after a
        failure let it."""
        # -c: it is no failure if not; -C: for work of a grade that may go now.
        options = ["-S"] if at_once else ["-c", "-C", "-s"]
        await self._execute([self._service.uucico, *self._service.taylor.options, *options, site])

    # --- the list --------------------------------------------------------------------------------------------------

    async def _list(self) -> dict[str, Any]:
        listed = await self._run("uustat", ["-a"])
        if listed.ending is not Ending.EXITED or listed.code != 0:
            raise Unknown(f"uustat: {listed.text or listed.output.decode('utf-8', 'replace').strip()[:200]}")
        if len(listed.output) >= LONGEST_LIST:
            raise Unknown("uustat lists more jobs than can be followed")
        text = listed.output.decode("utf-8", "replace")
        jobs = {match[1]: match[2] for line in text.splitlines() if (match := _LISTED.match(line))}
        told = await self._run("uustat", ["-m"])
        states: dict[str, str] = {}
        if told.ending is Ending.EXITED and told.code == 0:
            for line in told.output.decode("utf-8", "replace").splitlines():
                if match := _STATE.match(line):
                    states[match[1]] = match[2].strip()
        busy = sorted(site for site, state in states.items() if state.startswith("Talking"))
        return {"jobs": jobs, "busy": busy, "states": states}

    async def _run(self, program: str, arguments: list[str]) -> Outcome:
        return await self._execute([self._service.program(program), *self._service.taylor.options, *arguments])

    async def _execute(self, argv: list[str]) -> Outcome:
        pipe = self._service.pipe
        return await self._runner.run(
            Command(argv, pipe.identity, pipe.environment, "/", time_limit=60.0, output_limit=LONGEST_LIST)
        )

    # --- the Log ---------------------------------------------------------------------------------------------------

    async def data_of(self, site: str, job: str) -> str:
        """What the Log calls a job's data; "" if it cannot be told."""
        return str(await self.in_thread(read_data_name, self._service.taylor.job_file(site, job)))


def _is_data(text: str) -> bool:
    return not text or bool(_DATA.match(text))


def _checked(value: Any, name: str, good: Callable[[str], object]) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not good(text):
        raise ValueError(f"bad {name}")
    return text


def _traced(value: Any) -> tuple[str, str, float]:
    if isinstance(value, list) and len(value) == 3:
        site, data, since = value
        if isinstance(site, str) and is_site(site) and isinstance(data, str) and _is_data(data) \
                and isinstance(since, int | float):
            return site, data, float(since)
    raise ValueError("bad job")


def read_data_name(path: str) -> str:
    """A job's file holds "E D.0001 D.nearN0001 uucp … rmail u@b"."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = file.readline().split()
    except OSError:
        return ""
    return words[1] if len(words) > 1 and words[0] == "E" and _DATA.match(words[1]) else ""


def trace(log: str, asked: Sequence[tuple[str, str, float]]) -> list[tuple[float, bool]]:
    """For each (site, data, since): when the Log says that the data was sent after that (0.0: it does not), and whether
    it goes back so far."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return [(0.0, False)] * len(asked)
    sent: dict[tuple[bytes, bytes], float] = {}
    for line in lines:
        if (match := _SENDING.match(line)) and (moment := _moment(line)):
            sent[match[1], match[2]] = moment
    first = next((moment for line in lines if (moment := _moment(line))), 0.0)
    found = []
    for site, data, since in asked:
        moment = sent.get((site.encode(), data.encode()), 0.0) if data else 0.0
        found.append((moment if moment >= since - LEEWAY else 0.0, bool(data) and 0 < first <= since))
    return found


def _moment(line: bytes) -> float:
    match = _MOMENT.search(line)
    if match is None:
        return 0.0
    try:
        return time.mktime(time.strptime(match[1].decode("ascii"), "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        return 0.0
