"""Failures of a job's data path: one exception, and an exit status for each kind of failure."""

EXIT_USAGE = 2  # job.json, the token or the command line is wrong
EXIT_OUTPUT = 3  # a required output is missing, or an output is not a regular file
EXIT_MISMATCH = 4  # bytes differ from their declared length or digest
EXIT_API = 5  # the API is unavailable or does not accept the token (any longer), or the disk is full: retryable
EXIT_ARCHIVE = 6  # an archive is damaged or unsafe
EXIT_REFUSED = 7  # the platform's API refused the request: a non-retryable failure


class Failure(Exception):
    """Ends the program with `status` and this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Retry(Failure):
    """A temporary failure: the action is retried for a while before it fails."""
