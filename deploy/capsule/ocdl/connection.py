"""Client of the platform's API for one job: streams both ways, retries temporary failures, follows no redirects."""

import http.client
import json
import time
from contextlib import contextmanager
from typing import Callable, Iterator
from urllib.parse import urlsplit

from ocdl.failures import EXIT_API, EXIT_REFUSED, Failure, Retry

BLOCK = 1 << 20
# 0.2 s, doubling up to 30 s: a restart of the API takes only a few tries, and an outage does not cause a flood.
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
# Without a byte for this long the other side counts as dead; hashing an upload may take tens of seconds.
SILENCE_S = 120
# Enough of a problem document for its reason.
LONGEST_PROBLEM = 64 << 10


class Connection:
    """A client for one address and token."""

    def __init__(self, api: str, token: str, patience_s: float) -> None:
        self._patience_s = patience_s
        self._parts = urlsplit(api)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}

    def attempt(self, act: Callable[[], None]) -> None:
        """Runs an act, retrying it on Retry until the patience has passed; then raises the last failure."""
        pause, until = FIRST_PAUSE_S, None
        while True:
            try:
                return act()
            except Retry as failure:
                # Patience starts with the first failure: a large file may take hours without one.
                until = until if until is not None else time.monotonic() + self._patience_s
                if time.monotonic() + pause > until:
                    raise
                _report(f"{failure}; retrying")
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
                    # The API may refuse and close before it has read the body: its answer has the reason.
                    pass
                response = client.getresponse()
            _expect_success(response, "PUT", path)
        finally:
            client.close()

    def _client(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=SILENCE_S)


def _report(message: str) -> None:
    """Prints progress, which is not logged: hours of retries must not push the job's own lines out of its log."""
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
            block = error.partial  # the caller counts the bytes and detects the missing ones
            if block:
                yield block
            return
        except (OSError, http.client.HTTPException) as error:
            raise Retry(EXIT_API, f"the API interrupted {path}: {error}") from error
        if not block:
            return
        yield block


def _expect_success(response: http.client.HTTPResponse, method: str, path: str) -> None:
    if 200 <= response.status < 300:
        return
    message = f"{method} {path}: the API answered {response.status} {_problem(response)}"
    # 400 for an upload means that it arrived corrupted.
    if response.status >= 500 or response.status in (408, 425, 429) or (method == "PUT" and response.status == 400):
        raise Retry(EXIT_API, message)
    # The next attempt of the job has a new token: a revoked or lost token must not cost the outputs.
    raise Failure(EXIT_API if response.status in (401, 403) else EXIT_REFUSED, message)


def _problem(response: http.client.HTTPResponse) -> str:
    """The detail of an RFC 9457 problem, or the reason phrase."""
    try:
        value = json.loads(response.read(LONGEST_PROBLEM))
        return str(value.get("detail") or value.get("title") or response.reason)
    except (OSError, ValueError, AttributeError, RecursionError, http.client.HTTPException):
        return response.reason
