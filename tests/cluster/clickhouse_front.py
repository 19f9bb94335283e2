"""ClickHouse's HTTP interface over chDB, in a process of its own: what stands in for a server where there is none.

The engine is the same; what a server has around it is not there. With `--cluster` a front takes these for what one
server alone would do: `ON CLUSTER` is left out (the engine refuses it: there is no queue of statements), and so are the
settings of quorums; `Replicated…MergeTree` becomes `…MergeTree`, for the embedded engine creates replicated tables in
ZooKeeper, but they never leave read-only mode (`--replicated` keeps them). Everything else goes to the engine as it came.

Spoken: queries in the body, the address or a form; bound parameters (`param_x`); settings and the database as parameters;
inserts with their rows behind the statement or as the body, plain or compressed (gzip, lz4, zstd); answers in any
format the engine writes, compressed on demand; errors with X-ClickHouse-Exception-Code; names and passwords.

    python -m tests.cluster.clickhouse_front DIRECTORY [--config FILE] [--user NAME --password WORD] [--cluster [--replicated]]
"""

import argparse
import base64
import contextlib
import gzip
import hmac
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parents[2]
# Parameters of a request that are no settings of the engine.
_OF_TRANSPORT = frozenset(
    {
        *(
            "query",
            "database",
            "default_format",
            "query_id",
            "session_id",
            "session_timeout",
            "session_check",
        ),
        *(
            "user",
            "password",
            "quota_key",
            "compress",
            "decompress",
            "wait_end_of_query",
            "buffer_size",
            "role",
        ),
        *("client_protocol_version", "enable_http_compression", "send_progress_in_http_headers"),
        *("http_headers_progress_interval_ms", "cancel_http_readonly_queries_on_client_close"),
    }
)
_OF_QUORUM = frozenset({"insert_quorum", "insert_quorum_parallel", "select_sequential_consistency"})
_INSERT = re.compile(rb"\s*INSERT\s+INTO\b.*?\bFORMAT\s+(\w+)[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.IGNORECASE)
_TRAILING_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)\.")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ON_CLUSTER = re.compile(rb"\bON\s+CLUSTER\s+(?:'[^']*'|`[^`]*`|\w+)", re.IGNORECASE)
_REPLICATED = re.compile(rb"\bReplicated(\w*MergeTree)\('[^']*',\s*'[^']*'(?:,\s*)?")
_SYNC = re.compile(rb"\s*SYSTEM\s+SYNC\s+REPLICA\b", re.IGNORECASE)
_STATUS = {60: 404, 81: 404, 164: 403, 192: 403, 516: 403, 159: 500, 202: 503}


class Engine:
    """One engine directory; a handle for each request that is under way."""

    def __init__(
        self, directory: str, config: str | None, *, cluster: bool = False, replicated: bool = False
    ) -> None:
        import chdb

        options = f"?{urllib.parse.urlencode({'config-file': config})}" if config else ""
        self._address = f"{directory}{options}"
        self._connect = chdb.connect
        self._cluster = cluster
        self._replicated = replicated
        self._keeper = chdb.connect(self._address)  # the engine ends with its last handle
        self._lock = threading.Lock()

    def run(
        self,
        statement: bytes,
        *,
        format_: str,
        database: str | None,
        settings: dict[str, str],
        parameters: dict[str, str],
    ) -> bytes:
        """Raises RuntimeError with the engine's message."""
        if self._cluster:
            statement = _ON_CLUSTER.sub(b"", statement)
            if _SYNC.match(statement):  # there is no other replica
                return b""
            if not self._replicated:
                statement = _REPLICATED.sub(rb"\1(", statement)
            settings = {name: value for name, value in settings.items() if name not in _OF_QUORUM}
        with self._lock:
            handle = self._connect(self._address)
        try:
            if database:
                handle.query(f"USE `{database.replace('`', '')}`")
            if settings:
                handle.query("SET " + ", ".join(f"{name} = {_quoted(v)}" for name, v in settings.items()))
            return bytes(handle.query(statement.decode(), format_, params=parameters).bytes())
        finally:
            handle.close()


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer goes out as one: otherwise each waits 40 ms for an acknowledgement
    disable_nagle_algorithm = True
    engine: Engine
    user = "default"
    password = ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        if urllib.parse.urlsplit(self.path).path == "/ping":
            self._answer(200, b"Ok.\n")
            return
        self.do_POST()

    def do_POST(self) -> None:
        body = self._body()
        parameters = dict(
            urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True)
        )
        if self.headers.get_content_type() == "multipart/form-data":
            parameters |= _form(self.headers["Content-Type"], body)
            body = b""
        if not self._may(parameters):
            self._refuse(516, "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        try:
            answer, format_ = self._run(body, parameters)
        except RuntimeError as error:
            message = str(error)
            message = message[max(message.find("Code: "), 0) :]
            code = _CODE.search(message)
            self._refuse(int(code[1]) if code else 1001, message)
            return
        except Exception as error:
            self._refuse(1001, f"Code: 1001. DB::Exception: {error!r}. (STD_EXCEPTION)")
            return
        self._answer(200, answer, {"X-ClickHouse-Format": format_})

    def _run(self, body: bytes, parameters: dict[str, str]) -> tuple[bytes, str]:
        statement = parameters.get("query", "").encode()
        rows: bytes | None = None
        if statement:
            match = _INSERT.match(statement)
            if match:
                statement, rows = match[0], statement[match.end() :] + body
            elif body:
                statement += b"\n" + body
        else:
            match = _INSERT.match(body)
            statement, rows = (match[0], body[match.end() :]) if match else (body, None)
        format_ = parameters.get("default_format", "TabSeparated")
        trailing = _TRAILING_FORMAT.search(statement)
        if trailing:
            format_ = trailing[1].decode()
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in _OF_TRANSPORT and not name.startswith("param_") and _NAME.fullmatch(name)
        }
        bound = {
            name.removeprefix("param_"): value
            for name, value in parameters.items()
            if name.startswith("param_")
        }
        with _spooled(rows) as file:
            if file is not None:
                # The engine reads rows of an insert from a file.
                source = _quoted(file).encode()
                statement = statement[: trailing.start()] if trailing else statement
                if b"FROM input(" in statement:
                    statement = statement.replace(
                        b"FROM input(", b"FROM file(" + source + f", {format_}, ".encode(), 1
                    )
                else:
                    statement += b" FROM INFILE " + source + f" FORMAT {format_}".encode()
            answer = self.engine.run(
                statement,
                format_=format_,
                database=parameters.get("database"),
                settings=settings,
                parameters=bound,
            )
        return answer, format_

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces: list[bytes] = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self.headers.get("Content-Encoding"):
            case "gzip":
                return gzip.decompress(body)
            case "zstd":
                import zstandard

                return zstandard.ZstdDecompressor().decompressobj().decompress(body)
            case "lz4":
                import lz4.frame

                return lz4.frame.decompress(body)
            case _:
                return body

    def _may(self, parameters: dict[str, str]) -> bool:
        user = self.headers.get("X-ClickHouse-User", parameters.get("user", "default"))
        password = self.headers.get("X-ClickHouse-Key", parameters.get("password", ""))
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, _, password = base64.b64decode(given).decode().partition(":")
        return user == self.user and hmac.compare_digest(password.encode(), self.password.encode())

    def _refuse(self, code: int, message: str) -> None:
        self._answer(
            _STATUS.get(code, 500), message.encode() + b"\n", {"X-ClickHouse-Exception-Code": str(code)}
        )

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        accepted = [word.strip() for word in self.headers.get("Accept-Encoding", "").split(",")]
        encoding = None
        if status == 200 and len(body) > 1000:
            encoding = next((one for one in accepted if one in {"zstd", "gzip", "lz4"}), None)
        if encoding == "zstd":
            import zstandard

            body = zstandard.ZstdCompressor(level=1).compress(body)
        elif encoding == "gzip":
            body = gzip.compress(body, compresslevel=1)
        elif encoding == "lz4":
            import lz4.frame

            body = lz4.frame.compress(body)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if encoding:
            self.send_header("Content-Encoding", encoding)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)


def _form(content_type: str, body: bytes) -> dict[str, str]:
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    found: dict[str, str] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        assert name is not None
        found[name[1].decode()] = value.decode()
    return found


@contextlib.contextmanager
def _spooled(rows: bytes | None) -> Iterator[str | None]:
    if rows is None:
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="front-", delete=False) as file:
        file.write(rows)
    try:
        yield file.name
    finally:
        Path(file.name).unlink()


CLUSTER = "metering"


def configuration(
    file: Path,
    *,
    other_shards: int = 0,
    zookeeper_port: int | None = None,
    replica: str = "r1",
    cold: Path | None = None,
) -> Path:
    """An engine's configuration: of a cluster with one shard, which is the engine itself, and others behind closed ports;
    a ZooKeeper; and a storage policy `tiered` with a volume `cold`."""
    shard = (
        "<shard><internal_replication>true</internal_replication><replica><host>127.0.0.1</host>"
        "<port>{port}</port></replica></shard>"
    )
    own = 9
    shards = [shard.format(port=own), *(shard.format(port=own + 1 + n) for n in range(other_shards))]
    parts = [
        f"<tcp_port>{own}</tcp_port>",  # nothing listens there: it says which of the shards this engine is
        f"<remote_servers><{CLUSTER}>{''.join(shards)}</{CLUSTER}></remote_servers>",
        f"<macros><shard>01</shard><replica>{replica}</replica></macros>",
    ]
    if zookeeper_port:
        node = f"<node><host>127.0.0.1</host><port>{zookeeper_port}</port></node>"
        parts.append(f"<zookeeper>{node}</zookeeper>")
    if cold:
        disks = f"<disk_cold><path>{cold}/</path></disk_cold>"
        tiers = "<default><disk>default</disk></default><cold><disk>disk_cold</disk></cold>"
        parts.append(
            f"<storage_configuration><disks>{disks}</disks>"
            f"<policies><tiered><volumes>{tiers}</volumes></tiered></policies></storage_configuration>"
        )
    file.write_text(f"<clickhouse>{''.join(parts)}</clickhouse>")
    return file


class Front:
    """A front in a process of its own, for tests. `kill`, `freeze` and `start` are for tests that break things."""

    def __init__(
        self,
        directory: Path,
        *,
        config: Path | None = None,
        user: str = "default",
        password: str = "",
        cluster: bool = False,
        replicated: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self._command = [sys.executable, "-m", "tests.cluster.clickhouse_front", str(directory)]
        self._command += ["--user", user, "--password", password]
        if config:
            self._command += ["--config", str(config)]
        if cluster:
            self._command += ["--cluster", *(["--replicated"] if replicated else [])]
        if certificate:
            self._command += ["--certificate", str(certificate)]
        self._scheme = "https" if certificate else "http"
        self._cluster = cluster
        self._who = ":".join(urllib.parse.quote(part, safe="") for part in (user, password)) + "@"
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "default") -> str:
        cluster = f"?cluster={CLUSTER}" if self._cluster else ""
        return f"{self._scheme}://{self._who}127.0.0.1:{self.port}/{database}{cluster}"

    def start(self) -> "Front":
        """Again at the same port, where there was one."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_HERE / "src"), str(_HERE)])}
        process = subprocess.Popen(
            [*self._command, "--port", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_HERE,
            env=environment,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("port "), "The front did not start."
        self.port = int(line.split()[1])
        self._process = process
        return self

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(20)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--config")
    parser.add_argument("--user", default="default")
    parser.add_argument("--password", default="")
    parser.add_argument("--certificate", help="a file with certificate and key: speak TLS")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--replicated", action="store_true")
    given = parser.parse_args()
    Handler.engine = Engine(given.directory, given.config, cluster=given.cluster, replicated=given.replicated)
    Handler.user, Handler.password = given.user, given.password
    server = ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    server.daemon_threads = True
    if given.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    # The engine's own threads do not outlive an orderly exit well: what is synced is synced.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print("port", server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
