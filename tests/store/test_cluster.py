"""What only a cluster has: its statements, where rows lie, replicas, tiers of storage, servers that do not answer.

There is no ClickHouse server here. What is shown runs on chDB behind fronts (tests/cluster/clickhouse_front.py), with a
real ZooKeeper for replicated tables; docs/howto/clickhouse.md says what was run on what.
"""

import contextlib
import ipaddress
import itertools
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.cluster.clickhouse_front import Front, configuration
from tests.cluster.zookeeper import is_installed, zookeeper
from tests.store.contract import NOON, a_meter, a_query, an_event, record, table

from tallystick.errors import Invalid, Unavailable
from tallystick.metering.meter import Aggregation
from tallystick.store.clickhouse import ClickHouseStore
from tallystick.store.connection import Connection
from tallystick.store.engine import engine_of
from tallystick.store.interface import FACTS, EventSearch, FencedOff, RollupView
from tallystick.store.layout import Layout, Storage
from tallystick.store.statements import create_readings, create_rollups, migrations, statement

TABLES = ("schema_versions", "fences", "token_salts")
ROLLUPS = tuple(view.value for view in RollupView)


def connected(front: Front, storage: Storage | None = None) -> Connection:
    return Connection(
        engine_of(front.url()), query_time_s_max=20, query_memory_bytes_max=10**9, storage=storage
    )


def declarations() -> list[str]:
    """All statements that make a new installation."""
    found = [statement(f"{name}_table") for name in TABLES]
    for _, _, statements in migrations():
        found += statements
    return [*found, create_readings("readings"), *map(create_rollups, ROLLUPS)]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One of two shards; the other's server does not answer."""
    directory = tmp_path_factory.mktemp("front")
    front = Front(
        directory / "engine",
        config=configuration(directory / "c.xml", other_shards=1, cold=directory / "cold"),
        cluster=True,
    ).start()
    yield front
    front.stop()


@pytest.fixture(scope="module")
def door(front: Front) -> Iterator[Connection]:
    connection = connected(front)
    yield connection
    connection.close()


@pytest.fixture
def store(front: Front) -> Iterator[ClickHouseStore]:
    store = ClickHouseStore(front.url())
    store.migrate()
    yield store
    store.close()


# -- statements -----------------------------------------------------------------------------------------------------


def test_the_engine_understands_every_statement_of_a_cluster(door: Connection) -> None:
    layout = Layout("metering", "tally", Storage("tiered", "cold", 90))
    statements = [text for one in declarations() for text in layout.statements(one)]
    for one in (
        "CREATE TABLE snapshot_1_staged AS staged",
        "ALTER TABLE snapshot_1_events ATTACH PARTITION ID 'all' FROM events",
        "ALTER TABLE readings DELETE WHERE meter IN {meters:Array(UInt32)}",
        "ALTER TABLE readings MODIFY COMMENT 'x'",
        "ALTER TABLE events MODIFY SETTING storage_policy = 'tiered'",
        f"ALTER TABLE events MODIFY TTL {layout.cold_rule}",
        "DROP TABLE IF EXISTS `readings` SYNC",
        "TRUNCATE TABLE IF EXISTS readings SYNC",
    ):
        made = layout.statements(one)
        assert all("ON CLUSTER 'metering'" in text for text in made), one
        statements += made
    for text in statements:
        ((formatted,),) = door.rows("SELECT formatQuery({q:String})", {"q": text})
        assert formatted
    created = [re.match(r"CREATE TABLE IF NOT EXISTS `(\w+)` ON CLUSTER", text) for text in statements]
    names = {match[1] for match in created if match}
    assert names == {*TABLES, *itertools.chain(*((t, f"{t}_local") for t in (*FACTS, "readings", *ROLLUPS)))}


def test_one_server_alone_gets_the_statements_as_they_are() -> None:
    layout = Layout()
    for one in declarations():
        (text,) = layout.statements(one)
        assert re.sub(r"[\s`]", "", text) == re.sub(r"[\s`]", "", one)


@pytest.mark.parametrize("name", ["a'b", "x y", "", "a" * 65])
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        engine_of(f"http://h/{name}?cluster=c")
    if name:
        with pytest.raises(Invalid):
            engine_of(f"http://h/d?cluster={name}")
        with pytest.raises(Invalid, match="store_cold_volume"):
            Storage.of("p", name, 1)
    with pytest.raises(Invalid, match="store_cold_after_days"):
        Storage.of("p", "cold", 0)


# -- shards -----------------------------------------------------------------------------------------------------------


def test_rows_and_questions_of_a_customer_go_to_one_shard(store: ClickHouseStore, door: Connection) -> None:
    sql = "SELECT cityHash64('default', {c:String}) % 2"
    shards: dict[int, str] = {}
    for number in range(20):
        shards[door.rows(sql, {"c": f"c{number}"})[0][0]] = f"c{number}"
    here, elsewhere = shards[0], shards[1]
    meter = a_meter(Aggregation.COUNT)
    record(store, [meter], [an_event(1, customer=here), an_event(2, customer=here)], token="here")
    with pytest.raises(Unavailable):
        store.insert_events(table([an_event(3, customer=elsewhere)]), token="elsewhere")

    asked = a_query(meter, customers=(here,))
    assert store.usage(asked, rows_max=9)[0].value == 2
    days = a_query(meter, (NOON - 10**9, NOON, NOON + 10**9), customers=(here,), group_by=("subject",))
    assert store.usage(days, rows_max=9)[0].value == 2
    values = store.dimension_values(
        meter, 0, customers=[here], from_us=0, to_us=2 * NOON, as_of_us=None, prefix="", limit=9
    )
    assert values == [(None, 2)]
    # A shard that is away makes an answer impossible, not smaller.
    for customers in (None, (elsewhere,), (here, elsewhere)):
        with pytest.raises(Unavailable):
            store.usage(a_query(meter, customers=customers), rows_max=9)
    with pytest.raises(Unavailable):
        store.search(EventSearch("default"))
    with pytest.raises(Unavailable):
        store.counts()
    door.command("TRUNCATE TABLE events SYNC")
    door.command("TRUNCATE TABLE readings SYNC")


# -- storage ----------------------------------------------------------------------------------------------------------


def test_old_parts_move_to_the_cold_volume(front: Front, door: Connection, store: ClickHouseStore) -> None:
    """Also of tables that were there before the settings were."""
    tiered = ClickHouseStore(front.url(), storage=Storage.of("tiered", "cold", 30))
    try:
        for _ in range(2):
            tiered.migrate()
        rows = door.rows("SELECT DISTINCT storage_policy FROM system.tables WHERE name = 'events_local'")
        assert rows == [("tiered",)]
        sql = "SELECT number FROM numbers(20) WHERE cityHash64('default', concat('c', toString(number))) % 2 = 0"
        customer = f"c{door.rows(sql)[0][0]}"
        tiered.insert_events(table([an_event(1, customer=customer)]), token="old")
        ((now_us,),) = door.rows("SELECT toUnixTimestamp64Micro(now64(6))")
        new = an_event(2, customer=customer, recorded_at_us=now_us)
        tiered.insert_events(table([new]), token="new")
        parts = door.rows(
            "SELECT disk_name, sum(rows) FROM system.parts WHERE table = 'events_local' AND active GROUP BY 1 ORDER BY 1"
        )
        assert parts == [("default", 1), ("disk_cold", 1)]
    finally:
        tiered.close()


# -- replicas ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_replicated_tables_are_made_in_zookeeper(tmp_path: Path) -> None:
    """Two replicas of a shard agree on every table. No further: the embedded engine leaves them read-only."""
    if not is_installed():
        pytest.skip("ZooKeeper is not installed: run tools/system-packages.")
    with zookeeper(tmp_path) as port:
        fronts = [
            Front(
                tmp_path / name,
                config=configuration(tmp_path / f"{name}.xml", zookeeper_port=port, replica=name),
                cluster=True,
                replicated=True,
            ).start()
            for name in ("r1", "r2")
        ]
        try:
            for front in fronts:
                connection = connected(front)
                for one in declarations():
                    if not one.startswith("ALTER"):
                        connection.command(one)
                connection.close()
            connection = connected(fronts[0])
            found = connection.rows("SELECT table, zookeeper_path, total_replicas FROM system.replicas")
            connection.close()
            expected = {
                (name, f"/clickhouse/tables/{'all' if name in TABLES else '01'}/default/{name}", 2)
                for name in (*TABLES, *(f"{t}_local" for t in (*FACTS, "readings", *ROLLUPS)))
            }
            assert set(found) == expected
        finally:
            for front in fronts:
                front.kill()


# -- servers that do not answer -----------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Front]:
    front = Front(tmp_path / "engine", user="ü", password="p@ss/w?rd").start()
    yield front
    front.kill()
    shutil.rmtree(tmp_path / "engine", ignore_errors=True)


def test_a_server_away_for_a_while(alone: Front) -> None:
    store = ClickHouseStore(alone.url())
    store.migrate()
    store.insert_events(table([an_event(1)]), token="1")
    alone.kill()
    with pytest.raises(Unavailable, match="cannot be reached") as refused:
        store.insert_events(table([an_event(2)]), token="2")
    assert refused.value.retry_after_s == 2
    with pytest.raises(Unavailable):
        store.counts()
    with pytest.raises(Unavailable):
        list(store.identities(after=0, through=9))
    alone.start()
    store.insert_events(table([an_event(1)]), token="1")  # what was in, under the same token
    store.insert_events(table([an_event(2)]), token="2")
    assert store.counts()["events"] == 2
    assert sum(block.num_rows for block in store.identities(after=0, through=9)) == 2

    # The next server of several answers where the first does not.
    url = alone.url().replace("@127.0.0.1", "@127.0.0.1:9,127.0.0.1")
    several = ClickHouseStore(url)
    assert sum(block.num_rows for block in several.identities(after=0, through=9)) == 2
    assert several.counts()["events"] == 2
    several.insert_events(table([an_event(3)]), token="3")
    assert sum(block.num_rows for block in several.identities(after=0, through=9)) == 3
    several.close()

    # One that hangs is given up after the time allowed.
    patient = ClickHouseStore(f"{alone.url()}?send_receive_timeout=1")
    patient.ping()
    alone.freeze()
    with pytest.raises(Unavailable, match="cannot be reached"):
        patient.ping()
    alone.thaw()
    patient.ping()
    patient.close()

    wrong = ClickHouseStore(alone.url().replace("p%40ss", "another"))
    with pytest.raises(Unavailable, match="engine code 516") as refused:
        wrong.ping()
    assert "another" not in str(refused.value)
    wrong.close()

    for compress in ("gzip", "lz4", "zstd", "false"):
        spoken = ClickHouseStore(f"{alone.url()}?compress={compress}")
        many = [an_event(i, id=f"{compress}-{i}", subject="s" * 2000) for i in range(10, 20)]
        spoken.insert_events(table(many), token=compress)
        assert len(spoken.search(EventSearch("default", id=f"{compress}-11"))) == 1
        spoken.close()
    store.close()


class HeldUp:
    """A way to a server on which, while it is held, nothing gets through."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free = threading.Event()
        self._free.set()
        self.waiting = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def close(self) -> None:
        self.release()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                if not self._free.is_set():
                    there.sendall(data[: len(data) // 2])
                    self.waiting.set()
                    self._free.wait()
                    data = data[len(data) // 2 :]
                there.sendall(data)
        with contextlib.suppress(OSError):
            there.shutdown(socket.SHUT_WR)


def test_an_insert_half_sent_when_the_partition_was_lost_is_refused(alone: Front) -> None:
    way = HeldUp(alone.port)
    store = ClickHouseStore(alone.url())
    store.migrate()
    slow = ClickHouseStore(alone.url().replace(f":{alone.port}/", f":{way.port}/"))
    before = slow.partition(0, epoch=1)
    before.insert_events(table([an_event(1)]), token="1")
    rows = table([an_event(i) for i in range(2, 1000)])
    outcome: list[BaseException] = []

    def insert() -> None:
        try:
            before.insert_events(rows, token="2")
        except BaseException as error:
            outcome.append(error)

    way.hold()
    writer = threading.Thread(target=insert)
    writer.start()
    assert way.waiting.wait(90)
    after = store.partition(0, epoch=2)
    after.insert_events(rows.slice(0, 10), token="another batch than the one before knew")
    way.release()
    writer.join(20)
    assert [type(error) for error in outcome] == [FencedOff]
    assert store.counts()["events"] == 11
    for one in (slow, store):
        one.close()
    way.close()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_tls_checks_who_the_server_is(tmp_path: Path) -> None:
    authority, certificate = _self_signed(tmp_path)
    front = Front(tmp_path / "engine", certificate=certificate).start()
    try:
        for options, trusted in ((f"?ca_cert={authority}", True), ("?verify=false", True), ("", False)):
            store = ClickHouseStore(front.url() + options)
            if trusted:
                store.ping()
            else:
                with pytest.raises(Unavailable, match="cannot be reached"):
                    store.ping()
            store.close()
    finally:
        front.kill()


def _self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, alone and with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    public = made.public_bytes(encoding)
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "public.pem").write_bytes(public)
    (directory / "both.pem").write_bytes(public + private)
    return directory / "public.pem", directory / "both.pem"


def test_the_embedded_engine_has_no_tiers(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="store_storage_policy"):
        ClickHouseStore(f"chdb://{tmp_path}/store", storage=Storage.of("tiered", "", 0))
