"""What a failed request means: that it may pass by itself, or what to do about it."""

from pytest_pyinstall.errors import FetchError

__all__ = ["ELSEWHERE", "OTHERWISE", "STOPPED", "PassingError", "UnreachableError", "proxy_refused"]

OTHERWISE = (
    "try again later; behind a proxy, HTTPS_PROXY=http://host:port; from another server, --python-mirror URL or DIR"
)


ELSEWHERE = "another server: --python-mirror URL or DIR"


STOPPED = "stopped while downloading"


class PassingError(Exception):
    """A failure that may pass by itself, if not more than `attempts` in a row end so."""

    def __init__(
        self, reason: str, *, retry_after: float | None = None, hint: str = "", attempts: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.hint = hint
        self.attempts = attempts


class UnreachableError(FetchError):
    """Such failures went on for too long."""


def proxy_refused(status: str, where: str, what: str) -> Exception:
    """What it means that a proxy answered `status` instead of the server."""
    if status == "407":
        hint = "HTTPS_PROXY=http://user:password@host:port"
        return FetchError(f"{what}: the proxy wants a user and a password (407): {where}", hint=hint)
    if status.isdigit() and status.startswith("4") and status not in {"408", "425", "429"}:
        return FetchError(f"{what}: the proxy refuses it ({status}): {where}", hint="NO_PROXY=host goes without it")
    return PassingError(f"the proxy fails ({status if status.isdigit() else 'no answer'}): {where}")
