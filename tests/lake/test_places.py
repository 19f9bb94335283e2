"""A folder and a bucket behave alike: what is created once stays, what is put is whole."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from tallystick.cli.config.exports import Exports
from tallystick.cli.config.noun import changes_to, steps_to
from tallystick.cli.main import command
from tallystick.errors import Invalid, TallystickError, Unavailable
from tallystick.lake.bucket import Bucket
from tallystick.lake.folder import Folder
from tallystick.lake.interface import Place
from tallystick.lake.manifest import File, Manifest, digest_of, encoded, name_of
from tallystick.lake.verify import Verified, verify


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="lake")
    client.close()
    yield endpoint
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "folder":
        return Folder(tmp_path / "out")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    endpoint = request.getfixturevalue("s3_endpoint")
    return Bucket("lake", f"some/{tmp_path.name}", endpoint=endpoint)


def test_what_is_created_stays(place: Place) -> None:
    assert place.read("_manifests/1.json") is None
    assert place.create("_manifests/1.json", b"first")
    assert not place.create("_manifests/1.json", b"second")
    assert place.read("_manifests/1.json") == b"first"


def test_what_is_put_is_there_whole(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_bytes(b"x" * 100_000)
    for _ in range(2):
        place.put("data/date=2026-07-15/a.parquet", file)
    assert place.read("data/date=2026-07-15/a.parquet") == b"x" * 100_000


def test_a_folder_leaves_nothing_else(tmp_path: Path) -> None:
    place = Folder(tmp_path / "out")
    place.create("a/b", b"1")
    place.create("a/b", b"2")
    assert [one.name for one in (tmp_path / "out" / "a").iterdir()] == ["b"]


def test_what_does_not_answer_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        Folder(tmp_path / "file" / "below").create("a", b"1")
    if tmp_path.owner() != "root":
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(Invalid):
            Folder(tmp_path / "closed").create("a", b"1")


def chain(place: Place, directory: Path) -> None:
    previous, end = None, None
    for number in (1, 2):
        content = b"rows" * number
        (directory / "rows").write_bytes(content)
        place.put(f"data/{number}.parquet", directory / "rows")
        file = File(
            path=f"data/{number}.parquet", rows=3, bytes=len(content), sha256=sha256(content).hexdigest()
        )
        manifest = Manifest(
            tenant="t", export="e", export_id="i", what="events", number=number,
            from_=end, to=f"2026-07-0{number}T00:00:00Z", previous=previous, rows=3, files=(file,),
        )  # fmt: skip
        place.create(name_of(number), encoded(manifest))
        previous, end = digest_of(encoded(manifest)), manifest.to


def test_an_export_is_verified(place: Place, tmp_path: Path) -> None:
    chain(place, tmp_path)
    assert verify(place) == Verified(2, 2, 6, "2026-07-02T00:00:00Z", ())
    (tmp_path / "other").write_bytes(b"rowsrowz")
    place.put("data/2.parquet", tmp_path / "other")
    assert verify(place).faults == ("data/2.parquet is not what was written.",)


def test_a_command_verifies(tmp_path: Path) -> None:
    runner = CliRunner()
    chain(Folder(tmp_path / "out"), tmp_path)
    whole = runner.invoke(command(), ["exports", "verify", f"file://{tmp_path}/out"])
    assert (whole.exit_code, whole.stdout) == (
        0,
        "2 manifests, 2 files, 6 rows up to 2026-07-02T00:00:00Z: whole\n",
    )
    (tmp_path / "out/data/1.parquet").unlink()
    broken = runner.invoke(command(), ["exports", "verify", f"file://{tmp_path}/out"])
    assert broken.exit_code == 1
    assert "data/1.parquet is missing." in broken.output


class Served:
    """What the noun needs of the API."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []

    def send(self, method: str, path: str, **options: Any) -> None:
        self.sent.append((method, path, options.get("json")))


def test_exports_as_code() -> None:
    noun, api = Exports(), Served()
    entry = noun.checked({"key": "a/b", "what": "usage", "url": "s3://lake", "every": "PT1H"})
    noun.create(cast("Any", api), entry)
    assert api.sent == [
        ("POST", "/v1/exports", {"key": "a/b", "what": "usage", "url": "s3://lake", "every": "PT1H"})
    ]
    present = noun.read(
        {**entry, "prefix": "", "every": "PT5M", "partitioning": "date", "meters": None, "paused": False}
    )
    assert present.path == "/v1/exports/a%2Fb"
    (step,) = steps_to(noun, [entry], [present], prune=False)
    changes = changes_to(entry, present)
    assert (step.kind, noun.body(changes, entry)) == ("change", {"every": "PT1H"})
    moved = {**entry, "url": "s3://elsewhere"}
    with pytest.raises(TallystickError, match="cannot change its url"):
        noun.body(changes_to(moved, present), moved)
    assert noun.exported(present) == {"key": "a/b", "what": "usage", "url": "s3://lake"}
