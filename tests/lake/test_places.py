"""A folder and a bucket behave alike: what is created once stays, what is put is whole."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from tallystick.errors import Invalid, Unavailable
from tallystick.lake.bucket import Bucket
from tallystick.lake.folder import Folder
from tallystick.lake.interface import Place


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
