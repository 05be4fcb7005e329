"""How the data path of a job fails: one exception, and the exit statuses by which the platform tells the kinds apart."""

EXIT_USAGE = 2  # job.json, the token or the command line is wrong
EXIT_OUTPUT = 3  # a required output is missing, or an output is not a regular file
EXIT_MISMATCH = 4  # bytes differ from what was declared
EXIT_API = 5  # the platform's API could not be reached or was not able to answer, or does not know the token (any more)
EXIT_ARCHIVE = 6  # an archive to unpack is damaged or not safe
EXIT_REFUSED = 7  # the platform's API refused: asking again gets the same answer


class Failure(Exception):
    """Ends the program with `status` and this message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Retry(Failure):
    """A failure that may pass: tried again for a while before it stands."""
