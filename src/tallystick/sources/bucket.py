"""A bucket: objects of S3 and what speaks like it, of Google Cloud Storage, of Azure."""

import fnmatch
import io
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import from_url

from tallystick.errors import TallystickError
from tallystick.sources.folder import is_left_out
from tallystick.sources.interface import Feed, SourceFaultError
from tallystick.sources.objects import Found, GoneError, ObjectsRunner
from tallystick.sources.source import Source

REPORT = ".rejected.ndjson"
IN_MEMORY_BYTES = 8 * 1024 * 1024
LIST_AT_ONCE = 1000
PIECE_BYTES = 4 * 1024 * 1024
RETRIES_MAX = 3
REQUEST_TIME = "60s"
_STORES = {
    "s3": {
        "endpoint": "endpoint",
        "region": "region",
        "access_key_id": "access_key_id",
        "secret_access_key": "secret_access_key",
    },
    "gs": {"service_account_key": "service_account_key"},
    "az": {"endpoint": "endpoint", "access_key_id": "account_name", "secret_access_key": "account_key"},
}
"""What settings are called there, by scheme."""


class Bucket:
    """`may_use_own`: without a key in the settings, the server's own credentials are used (an instance's role); otherwise
    nobody's, which opens public buckets alone."""

    def __init__(self, source: Source, *, may_use_own: bool) -> None:
        """Opens nothing. Raises SourceFaultError."""
        settings = source.settings
        url: str = settings["url"]
        names = _STORES.get(urlsplit(url).scheme)
        if names is None:
            raise SourceFaultError(f"url: {url[:200]} begins with none of s3://, gs:// and az://.")
        config: dict[str, Any] = {
            theirs: settings[name] for name, theirs in names.items() if settings.get(name) is not None
        }
        if "secret_access_key" not in settings and "service_account_key" not in settings and not may_use_own:
            config["skip_signature"] = True
        try:
            self._store: Any = from_url(
                url,
                config=cast("Any", config),
                client_options={
                    "allow_http": str(settings.get("endpoint", "")).startswith("http://"),
                    "timeout": REQUEST_TIME,
                },
                retry_config=cast("Any", {"max_retries": RETRIES_MAX}),
            )
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise _fault("be opened", error) from error
        self._pattern: str = settings["pattern"]
        self._bytes_max: int = settings["object_bytes_max"]
        prefix: str | None = settings.get("rejected_prefix")
        self._rejected = None if prefix is None else prefix.strip("/")

    def found(self) -> Iterator[Found]:
        try:
            for chunk in obstore.list(self._store, chunk_size=LIST_AT_ONCE):
                for meta in chunk:
                    name = meta["path"]
                    if is_left_out(name) or not fnmatch.fnmatchcase(name, self._pattern):
                        continue
                    if self._rejected and name.startswith(f"{self._rejected}/"):
                        continue
                    modified_us = round(meta["last_modified"].timestamp() * 1_000_000)
                    version = meta["e_tag"] or f"{meta['size']}-{modified_us}"
                    yield Found(name, version, meta["size"], modified_us)
        except (BaseError, OSError) as error:
            raise _fault("be listed", error) from error

    @contextmanager
    def opened(self, found: Found) -> Generator[BinaryIO]:
        if found.size > self._bytes_max:
            raise TallystickError(
                f"{found.name} has {found.size:,} bytes; object_bytes_max is {self._bytes_max:,}."
            )
        # What is not known by an ETag is taken as it is: the next look notices when it has changed meanwhile.
        options = {"if_match": found.version} if found.version.startswith(('"', "W/")) else {}
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as stream:
            try:
                result = obstore.get(self._store, found.name, options=cast("Any", options))
                for piece in result.stream(min_chunk_size=PIECE_BYTES):
                    stream.write(piece)
                    if stream.tell() > self._bytes_max:
                        raise TallystickError(f"{found.name} is larger than object_bytes_max.")
            except (FileNotFoundError, PreconditionError) as error:
                raise GoneError from error
            except (BaseError, OSError) as error:
                raise _fault("be read", error) from error
            stream.seek(0)
            yield cast("BinaryIO", stream)

    def report(self, name: str, lines: Sequence[bytes]) -> None:
        if self._rejected is None:
            return
        path = f"{self._rejected}/{name}{REPORT}" if self._rejected else f"{name}{REPORT}"
        try:
            if lines:
                obstore.put(self._store, path, io.BytesIO(b"\n".join(lines) + b"\n"))
            else:
                obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise _fault("take the report", error) from error


def _fault(what: str, error: Exception) -> SourceFaultError:
    # The library's words name hosts and paths, and quote what the service has answered; a line of them is enough.
    said = " ".join(str(error).split())[:300]
    return SourceFaultError(f"The bucket cannot {what}: {type(error).__name__}: {said}")


class BucketRunner(ObjectsRunner):
    """A source of kind `bucket` at work."""

    def __init__(self, source: Source, feed: Feed, *, may_use_own: bool) -> None:
        super().__init__(source, feed, Bucket(source, may_use_own=may_use_own))
