"""Every setting, in one table. Flags, environment, `--help` and docs/reference/settings.md are made from it.

Precedence: command-line flag, then environment (`TALLYSTICK_` and the name in capitals), then the TOML file named by
`--config` or `TALLYSTICK_CONFIG`, then the default. Only `wiring.py` and `cli/` read settings; importing this module
has no effect.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.errors import Fault, Invalid

ENVIRONMENT_PREFIX = "TALLYSTICK_"


def _setting(default: Any, help_text: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": help_text, "secret": secret, "choices": choices})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one process. Sizes are bytes, times carry their unit in the name."""

    data_dir: str = _setting("tallystick-data", "Directory for everything the embedded default stores.")
    listen: str = _setting("127.0.0.1:8080", "Address and port of the HTTP API.")
    advertise_url: str = _setting(
        "",
        "Where the other processes of a cluster reach this one's API, such as http://10.0.0.7:8080. Empty: http:// and "
        "what it listens on.",
    )
    log_url: str = _setting(
        "",
        "Event log: sqlite:///path or nats://user:password@host:port,… Empty: a file in the data directory.",
        secret=True,
    )
    role: str = _setting(
        "api,recorder,worker",
        "What this process does, of api, recorder and worker (comma-separated). Where the log has one partition and is no "
        "cluster's, a process does everything.",
    )
    partitions: int = _setting(
        1,
        "Partitions of the event log, 1 to 64, said when an installation is made and changed by `tallystick migrate`. More "
        "than one: recorders agree through the catalog's database, in one process or in many.",
    )
    store_url: str = _setting(
        "",
        "Store: chdb:///path, or a ClickHouse server: http(s)://user:password@host:port/database, of a cluster with "
        "`?cluster=name` (and several servers: host:port,host:port). Empty: in the data directory.",
        secret=True,
    )
    store_storage_policy: str = _setting(
        "",
        "Storage policy of the store's tables, as the ClickHouse servers name it. Empty: the servers' default.",
    )
    store_cold_volume: str = _setting(
        "",
        "Volume of the storage policy that old facts and readings move to. Empty: they stay where they are.",
    )
    store_cold_after_days: int = _setting(
        365, "Days after which what was recorded moves to `store_cold_volume`."
    )
    catalog_url: str = _setting(
        "", "Catalog: sqlite:///path or postgresql://… Empty: a file in the data directory.", secret=True
    )
    admin_key: str = _setting(
        "",
        "API key with every scope in the tenant `default`. Empty: the first start makes one and prints it.",
        secret=True,
    )
    unknown_subject: str = _setting(
        "create",
        "What becomes of an event whose subject belongs to no customer. create: it gets a customer of its own name. "
        "quarantine: the event is recorded, and counts once the subject belongs to a customer. reject: it is refused.",
        choices=("create", "quarantine", "reject"),
    )
    events_per_request_max: int = _setting(10_000, "Events in one request.")
    body_bytes_max: int = _setting(32 * 1024 * 1024, "Decoded size of a request body.")
    event_bytes_max: int = _setting(256 * 1024, "Size of one event's data.")
    event_depth_max: int = _setting(32, "Nesting of one event's data.")
    future_tolerance_s: int = _setting(3600, "How far ahead of the server's clock an event's time may lie.")
    log_waiting_events_max: int = _setting(
        200_000, "Events that may wait for a commit before requests are refused with 503."
    )
    log_unrecorded_events_max: int = _setting(
        50_000_000, "Events that may wait for the recorder before requests are refused with 503."
    )
    record_batch_events_max: int = _setting(100_000, "Events the recorder takes at a time.")
    wait_s_max: int = _setting(10, "Longest time a request waits for `wait=recorded` or `min_position`.")
    usage_rows_max: int = _setting(100_000, "Rows one usage answer may have.")
    usage_stream_rows_max: int = _setting(
        50_000_000, "Rows a usage answer may have that is streamed (CSV, Parquet, Arrow)."
    )
    usage_stream_time_s_max: int = _setting(
        600, "Time within which a streamed usage answer must be fetched; beyond, it is cut off."
    )
    usage_streams_max: int = _setting(
        4, "Streamed usage answers at a time, of each server; more are refused with 503."
    )
    usage_windows_max: int = _setting(50_000, "Windows one usage question may have.")
    query_time_s_max: int = _setting(60, "Time one question may take in the store.")
    store_memory_bytes_max: int = _setting(8 * 1024**3, "Memory the store may use for one question.")
    key_requests_per_s_max: int = _setting(
        0, "Requests a second of one API key, shared out over `api_servers`; beyond: 429. 0: no limit."
    )
    tenant_requests_per_s_max: int = _setting(
        0, "Requests a second of one tenant, shared out over `api_servers`; beyond: 429. 0: no limit."
    )
    tenant_events_per_s_max: int = _setting(
        0, "Events a second of one tenant, shared out over `api_servers`; beyond: 429. 0: no limit."
    )
    api_servers: int = _setting(
        1,
        "How many processes with the role api share the limits above: each counts for itself and allows its part, as a load "
        "balancer gives it its part of the requests.",
    )
    trusted_proxies: str = _setting(
        "",
        "Addresses and networks (10.0.0.0/8), with commas between them, of proxies in front: their `X-Forwarded-For` says "
        "where a request comes from, for the audit and for slowing who guesses keys. Empty: none is believed.",
    )
    failed_keys_per_minute_max: int = _setting(
        600, "Unknown keys a minute from one address; beyond, its keys are not looked up. 0: no limit."
    )
    cors_origins: str = _setting(
        "",
        "Origins whose pages may call the API from a browser, with commas between them; *: all. Empty: none.",
    )
    oidc_issuer: str = _setting(
        "", "OpenID Connect provider at which people log in (/auth/login), such as https://id.example.com."
    )
    oidc_client_id: str = _setting("", "This installation's name at the provider.")
    oidc_client_secret: str = _setting("", "Its secret at the provider.", secret=True)
    public_url: str = _setting(
        "",
        "Where people reach the pages, such as https://usage.example.com: for links in reports that are sent.",
    )
    oidc_redirect_url: str = _setting("", "Where the provider sends people back to: https://…/auth/callback.")
    oidc_return_url: str = _setting(
        "", "Page that is given the token as #token=…; empty: /auth/callback answers it as JSON."
    )
    oidc_tenant: str = _setting("default", "The tenant that people log in to.")
    oidc_roles_claim: str = _setting("groups", "The claim of the ID token that lists a person's roles.")
    oidc_roles: str = _setting(
        "", "What roles may do: `role=scope scope; role=scope`. People without any of them are refused."
    )
    oidc_session_s: int = _setting(3600, "How long a login is good.")
    sources: str = _setting(
        "default",
        "Which tenants may have sources, which read the server's files, its environment (TALLYSTICK_SECRET_…) and what its "
        "network reaches. default: the tenant `default` alone.",
        choices=("default", "all", "off"),
    )
    source_dirs: str = _setting(
        "",
        "Folders, with colons between them, below which sources may read files; of a tenant other than `default`, the folder "
        "of its key within them. Empty: `sources` in the data directory.",
    )
    dead_letters_max: int = _setting(
        10_000,
        "Dead letters of one source that may be open; beyond, it waits until some are retried or discarded.",
    )
    compat: str = _setting(
        "openmeter,lago,amberflo,stripe",
        "Vendors whose APIs are answered under a prefix of their name, with commas between them; none: no vendor's.",
    )
    crm: str = _setting(
        "",
        "A CRM that is told of customers' plan, usage, spend and health. Empty: none.",
        choices=("", "hubspot", "salesforce"),
    )
    crm_tenant: str = _setting("default", "Whose customers the CRM is told of.")
    crm_meters: str = _setting(
        "",
        "Meters whose usage it is told, with commas between them; the first says whether a customer grows.",
    )
    crm_every_s: int = _setting(3600, "How often the CRM is told what has changed.")
    crm_url: str = _setting(
        "",
        "Of Salesforce: https://mydomain.my.salesforce.com. Of HubSpot: empty, or another address of its API.",
    )
    crm_token: str = _setting("", "Of HubSpot: the token of a private app.", secret=True)
    crm_client_id: str = _setting("", "Of Salesforce: the connected app's consumer key.")
    crm_client_secret: str = _setting("", "Of Salesforce: its secret.", secret=True)
    export_urls: str = _setting(
        "",
        "URLs below which continuous exports may write, with commas between them: s3://bucket/prefix, file:///directory. Empty: "
        "none. Credentials and region of a bucket come from the environment (AWS_ACCESS_KEY_ID, AWS_REGION, …).",
    )
    export_s3_endpoint: str = _setting(
        "", "Where buckets of continuous exports are, if not at AWS: http(s)://host:port."
    )
    telemetry_mapping: str = _setting(
        "",
        "YAML file that says whose usage a metric or a log record is (OTLP, Prometheus), and which of them become events. "
        "Empty: the subject is in one of the usual attributes, and everything becomes an event.",
    )
    billing: str = _setting(
        "on", "Prices, plans and invoices; off: their routes are absent.", choices=("on", "off")
    )
    invoice_grace: str = _setting(
        "PT1H",
        "How long an invoice waits for late usage before it is finalized, where its plan says nothing.",
    )
    late_policy: str = _setting(
        "next_invoice",
        "What becomes of money that is due back because finalized lines have changed, where the plan says nothing: a line "
        "of the next invoice, or a credit note.",
        choices=("next_invoice", "credit_note"),
    )
    payments: str = _setting(
        "",
        "Where finalized invoices are sent to be paid or booked. Empty: nowhere.",
        choices=("", "stripe", "journal"),
    )
    stripe_api_key: str = _setting("", "Secret API key at Stripe, for `payments` stripe.", secret=True)
    stripe_url: str = _setting("", "Another address of Stripe's API. Empty: its own.")
    tax_url: str = _setting(
        "",
        "Where to ask for the taxes of an invoice that becomes final (one POST each). Empty: the customer's terms say.",
    )
    tax_secret: str = _setting("", "Bearer token for it.", secret=True)
    tax_time_s_max: int = _setting(10, "Time within which it must answer.")
    billing_sweep_s: int = _setting(30, "How often due invoices are looked for. 0: never by itself.")
    portal_frame_ancestors: str = _setting(
        "*",
        "Origins whose pages may embed customers' own pages (/portal), separated by spaces. *: any; 'none': nobody.",
    )
    webhook_allow_private: str = _setting(
        "false",
        "Whether webhooks may lead to private, loopback and link-local addresses.",
        choices=("false", "true"),
    )
    gate_process: str = _setting(
        "off",
        "Whether checks and reservations are decided in a process of their own, which this one starts: they are then answered "
        "in a few milliseconds beside many events too. It takes some 150 MB of memory; in a cluster it is never needed.",
        choices=("off", "on"),
    )
    delivery_retry_s: str = _setting(
        "5,30,300,1800,7200,18000,36000,86400,86400,86400",
        "Seconds after which a failed delivery is tried again, attempt by attempt; after the last it is given up.",
    )
    delivery_time_s_max: int = _setting(15, "Time within which an endpoint must answer.")
    deliveries_keep_days: int = _setting(30, "How long finished deliveries are kept. 0: for ever.")
    streams_per_tenant_max: int = _setting(
        50,
        "Event streams (GET /v1/stream) of one tenant at a time, counted by each server; more are refused with 429.",
    )
    secrets_key: str = _setting(
        "",
        "Key under which the secrets of channels are sealed, the same for every process: any 32 random bytes as text. "
        "Empty: they are kept as they are.",
        secret=True,
    )
    smtp_host: str = _setting("", "Mail server for channels of type email. Empty: none.")
    smtp_port: int = _setting(587, "Its port.")
    smtp_tls: str = _setting(
        "starttls",
        "How the connection to it is secured; tls: from the first byte.",
        choices=("starttls", "tls", "none"),
    )
    smtp_user: str = _setting("", "User at the mail server. Empty: without a login.")
    smtp_password: str = _setting("", "Password at the mail server.", secret=True)
    smtp_from: str = _setting("", "Sender of e-mail: an address, or `Name <address>`.")
    log_level: str = _setting(
        "info", "Least level that is logged.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = _setting(
        "auto",
        "Form of log lines; auto: text on a terminal, otherwise json.",
        choices=("auto", "json", "text"),
    )


def environment_name(name: str) -> str:
    """`data_dir` → `TALLYSTICK_DATA_DIR`."""
    return ENVIRONMENT_PREFIX + name.upper()


def load(
    *, flags: Mapping[str, Any], environment: Mapping[str, str], config_file: str | None = None
) -> Settings:
    """Put the sources together.

    Raises Invalid with one fault for every setting that is unknown (in the file) or cannot be read.
    """
    path = config_file or environment.get(environment_name("config"))
    from_file: dict[str, Any] = {}
    if path:
        try:
            from_file = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise Invalid(f"The configuration file {path} cannot be read: {error.strerror}.") from error
        except tomllib.TOMLDecodeError as error:
            raise Invalid(f"The configuration file {path} is not valid TOML: {error}.") from error
    known = {f.name: f for f in dataclasses.fields(Settings)}
    faults = [
        Fault(name, "unknown_setting", f"There is no setting {name!r} (file {path}).")
        for name in from_file
        if name not in known
    ]
    values: dict[str, Any] = {}
    for name, declared in known.items():
        if flags.get(name) is not None:
            raw: Any = flags[name]
        elif environment.get(environment_name(name)) not in (None, ""):
            raw = environment[environment_name(name)]
        elif name in from_file:
            raw = from_file[name]
        else:
            continue
        try:
            values[name] = _read(raw, declared.default, declared.metadata["choices"])
        except ValueError as error:
            faults.append(Fault(name, "invalid_setting", f"{environment_name(name)}: {error}"))
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), code="invalid_setting", faults=faults)
    return Settings(**values)


def _read(raw: Any, default: Any, choices: tuple[str, ...]) -> Any:
    if isinstance(default, int):
        try:
            number = int(str(raw).replace("_", ""))
        except ValueError:
            raise ValueError(f"{raw!r} is not a whole number.") from None
        if number < 0:
            raise ValueError(f"{raw!r} is negative.")
        return number
    text = str(raw)
    if choices and text not in choices:
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}.")
    return text
