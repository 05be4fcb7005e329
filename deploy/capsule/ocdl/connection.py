"""Talks to the platform's API for one job: streams both ways, retries what may pass, follows no redirect with the token."""

import http.client
import json
import time
from contextlib import contextmanager
from typing import Callable, Iterator
from urllib.parse import urlsplit

from ocdl.failures import EXIT_API, EXIT_REFUSED, Failure, Retry

BLOCK = 1 << 20
# 0.2 s, doubling up to half a minute: a restart of the API is over after a few tries, an outage is not flooded.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
# No byte for this long means that the other side is gone; a loaded machine may take tens of seconds to digest an upload.
SILENCE_S = 120
# Enough of a problem's body to tell why.
LONGEST_PROBLEM = 64 << 10


class Connection:
    """A client of one address with one token. A class because the context manager and both verbs share them."""

    def __init__(self, api: str, token: str, patience_s: float) -> None:
        self._patience_s = patience_s
        self._parts = urlsplit(api)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}

    def attempt(self, act: Callable[[], None]) -> None:
        """Runs an act that may fail with Retry again and again until patience ends; the last failure stands."""
        pause, until = FIRST_PAUSE_S, None
        while True:
            try:
                return act()
            except Retry as failure:
                # Patience begins with the first failure: a large file that takes hours is none.
                until = until if until is not None else time.monotonic() + self._patience_s
                if time.monotonic() + pause > until:
                    raise
                _tell(f"{failure}; asked again")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    @contextmanager
    def get(self, path: str) -> Iterator[Iterator[bytes]]:
        """Opens a body for streaming."""
        client = self._client()
        try:
            with _reachable(path):
                client.request("GET", self._parts.path + path, headers=self._headers)
                response = client.getresponse()
            _expect_success(response, "GET", path)
            yield _blocks(response, path)
        finally:
            client.close()

    def put(self, path: str, body: Iterator[bytes], headers: dict[str, str]) -> None:
        """Sends a body whose Content-Length is among the headers."""
        client = self._client()
        try:
            with _reachable(path):
                try:
                    client.request("PUT", self._parts.path + path, body=body, headers={**self._headers, **headers})
                except (BrokenPipeError, ConnectionResetError):
                    # The API may answer a refusal and close before it has read the body: its answer says more.
                    pass
                response = client.getresponse()
            _expect_success(response, "PUT", path)
        finally:
            client.close()

    def _client(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=SILENCE_S)


def _tell(message: str) -> None:
    """As progress, which people see and no log keeps: the waiting of hours must not push a job's own words out of its log."""
    print("::progress " + json.dumps({"done": 0, "total": 0, "message": message[:500]}), flush=True)


@contextmanager
def _reachable(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise Retry(EXIT_API, f"the API did not answer for {path}: {reason}") from error


def _blocks(response: http.client.HTTPResponse, path: str) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(BLOCK)
        except http.client.IncompleteRead as error:
            block = error.partial  # the caller counts bytes and knows how many are missing
            if block:
                yield block
            return
        except (OSError, http.client.HTTPException) as error:
            raise Retry(EXIT_API, f"the API broke off {path}: {error}") from error
        if not block:
            return
        yield block


def _expect_success(response: http.client.HTTPResponse, method: str, path: str) -> None:
    if 200 <= response.status < 300:
        return
    message = f"{method} {path}: the API answered {response.status} {_problem(response)}"
    # 400 for an upload says that other bytes came than were announced: something on the way broke them.
    if response.status >= 500 or response.status in (408, 425, 429) or (method == "PUT" and response.status == 400):
        raise Retry(EXIT_API, message)
    # The next try of the job has another token: one that was revoked or lost must not cost what is made.
    raise Failure(EXIT_API if response.status in (401, 403) else EXIT_REFUSED, message)


def _problem(response: http.client.HTTPResponse) -> str:
    """The detail of an RFC 9457 problem, or the reason phrase."""
    try:
        value = json.loads(response.read(LONGEST_PROBLEM))
        return str(value.get("detail") or value.get("title") or response.reason)
    except (OSError, ValueError, AttributeError, RecursionError, http.client.HTTPException):
        return response.reason
