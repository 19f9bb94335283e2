"""A bucket of S3, or of whatever speaks its protocol and heeds `If-None-Match: *` (S3 does since 2024, and so do MinIO, R2 and GCS).

Credentials and region come from the environment, as every tool of AWS reads them (AWS_ACCESS_KEY_ID, AWS_REGION, …).
"""

import contextlib
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from tallystick.errors import Invalid, Unavailable

_REFUSED = (PermissionDeniedError, UnauthenticatedError, InvalidPathError)


class Bucket:
    """`endpoint`: of another service than AWS, such as http://127.0.0.1:9000; "": that of AWS."""

    def __init__(self, name: str, prefix: str, *, endpoint: str = "", time_s_max: int = 120) -> None:
        more: Any = {"endpoint": endpoint} if endpoint else {}
        if endpoint:
            more["virtual_hosted_style_request"] = False
        self._store = S3Store(
            name,
            prefix=prefix or None,
            config=more,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": timedelta(seconds=time_s_max),
                "connect_timeout": timedelta(seconds=10),
            },
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
        )

    def put(self, name: str, file: Path) -> None:
        with _mapped():
            obstore.put(self._store, name, file)

    def create(self, name: str, content: bytes) -> bool:
        with _mapped():
            try:
                obstore.put(self._store, name, content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def read(self, name: str) -> bytes | None:
        with _mapped():
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError:
                return None


@contextlib.contextmanager
def _mapped() -> Generator[None]:
    try:
        yield
    except _REFUSED as error:
        raise Invalid(
            "The bucket of the export refuses the server's credentials.", code="export_place_refused"
        ) from error
    except (BaseError, OSError) as error:
        raise Unavailable("The bucket of the export does not answer.", retry_after_s=30) from error
