"""The errors of Kairos: a small tree whose codes are stable and whose HTTP status is mapped in one table."""

from __future__ import annotations


class KairosError(Exception):
    """Something a caller did or met; `code` is stable and machine-readable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[KairosError], tuple[str, str]]:
        return type(self), (self.code, self.message)


class InvalidInput(KairosError):
    """The request or file is wrong and will stay wrong."""


class Unauthorised(KairosError):
    """No key, or a key nobody issued."""


class Forbidden(KairosError):
    """A known key without the scope this call needs."""


class NotFound(KairosError):
    """The thing named does not exist."""


class Conflict(KairosError):
    """It contradicts what is already recorded."""


class Expired(KairosError):
    """It existed and is beyond its retention."""


class TooLarge(KairosError):
    """More bytes than one event, batch or request may have."""


class UnsupportedMedia(KairosError):
    """A content type or encoding that Kairos does not read."""


class Unavailable(KairosError):
    """It may work in a moment: a shard, the store or a queue did not answer in time."""


class Fenced(KairosError):
    """A newer epoch owns the partition; whatever this writer holds of it is void."""
