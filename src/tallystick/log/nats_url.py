"""Where a NATS cluster is and how to log in: `nats://user:password@host:4222,host:4222/?stream=tallystick&replicas=3`.

| option | meaning |
|---|---|
| `stream` | first part of the streams' names, one stream a partition: `tallystick-0` … (default `tallystick`) |
| `replicas` | servers that keep a copy: 1, 3 or 5 (default 3 where several hosts are named, otherwise 1) |
| `credentials` | path of a `.creds` file, instead of user and password; a user without a password is a token |
| `ca`, `certificate`, `key` | paths of PEM files for TLS; `tls://` alone trusts the system's authorities |
| `monitor` | `http://host:8222,…`: where to ask whether the servers sync every write; they must, when this is given |
"""

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from tallystick.errors import Fault, Invalid

SCHEMES = ("nats", "tls")
STREAM_DEFAULT = "tallystick"

_PORT_DEFAULT = 4222
_REPLICAS = (1, 3, 5)
_NAME_BYTES_MAX = 200
_OPTIONS = frozenset({"stream", "replicas", "credentials", "ca", "certificate", "key", "monitor"})


@dataclass(frozen=True, slots=True)
class NatsUrl:
    """A read URL. `servers` are `nats://host:port`; secrets are kept out of `repr`."""

    servers: tuple[str, ...]
    stream: str = STREAM_DEFAULT
    replicas: int = 1
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = None
    is_tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    monitors: tuple[str, ...] = ()

    @classmethod
    def read(cls, url: str) -> "NatsUrl":
        """Raises Invalid with one fault for everything that is wrong with it."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in SCHEMES:
            raise _invalid([f"it must begin with nats:// or tls://, not {scheme!r}"])
        authority, _, query = rest.partition("?")
        authority = authority.rstrip("/")
        login, _, hosts = authority.rpartition("@")
        faults: list[str] = []
        servers = tuple(_server(scheme, host.strip(), faults) for host in hosts.split(","))
        options: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in _OPTIONS:
                faults.append(f"there is no option {name!r}; known are {', '.join(sorted(_OPTIONS))}")
            elif name in options:
                faults.append(f"{name} is given twice")
            options[name] = value
        stream = options.get("stream", STREAM_DEFAULT)
        if not stream.replace("-", "").replace("_", "").isalnum() or len(stream.encode()) > _NAME_BYTES_MAX:
            faults.append(f"stream={stream!r} may hold letters, digits, - and _")
        replicas = _replicas(options.get("replicas"), len(servers), faults)
        if ("certificate" in options) != ("key" in options):
            faults.append("certificate and key belong together")
        user, password, token = _login(login)
        if faults:
            raise _invalid(faults)
        return cls(
            servers=servers,
            stream=stream,
            replicas=replicas,
            user=user,
            password=password,
            token=token,
            credentials=options.get("credentials"),
            is_tls=scheme == "tls" or "ca" in options or "certificate" in options,
            ca=options.get("ca"),
            certificate=options.get("certificate"),
            key=options.get("key"),
            monitors=tuple(each for each in options.get("monitor", "").split(",") if each),
        )

    def tls_context(self) -> ssl.SSLContext | None:
        """Raises Invalid when a file cannot be read."""
        if not self.is_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise _invalid([f"a file for TLS cannot be read: {error}"]) from error
        return context


def _login(login: str) -> tuple[str | None, str | None, str | None]:
    """(user, password, token)"""
    if not login:
        return None, None, None
    user, separator, password = login.partition(":")
    if not separator:
        return None, None, unquote(user)
    return unquote(user), unquote(password), None


def _server(scheme: str, host: str, faults: list[str]) -> str:
    try:
        parts = urlsplit(f"{scheme}://{host}")
        port = parts.port or _PORT_DEFAULT
        name = parts.hostname
    except ValueError:
        name, port = None, 0
    if not name:
        faults.append(f"{host!r} is no host:port")
        return ""
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def _replicas(given: str | None, server_count: int, faults: list[str]) -> int:
    if given is None:
        return 3 if server_count > 1 else 1
    if given not in {str(each) for each in _REPLICAS}:
        faults.append(f"replicas={given!r} must be 1, 3 or 5")
        return 1
    return int(given)


def _invalid(faults: list[str]) -> Invalid:
    detail = "log_url: " + "; ".join(faults) + "."
    return Invalid(
        detail,
        code="invalid_setting",
        faults=[Fault("log_url", "invalid_setting", f"log_url: {fault}.") for fault in faults],
    )
