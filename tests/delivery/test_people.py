"""Channels that people read: e-mail through a real SMTP server, and Slack's shape."""

import asyncio
import socket
from dataclasses import replace
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from tests.delivery.receiver import receiving
from tests.delivery.rig import NOW_US, TENANT, rigged

from tallystick.catalog.delivering import DeliverySearch, Notice
from tallystick.catalog.reporting import REPORT_KIND, ReportFile
from tallystick.delivery.email import EmailTarget, SmtpServer, checked_address, composed
from tallystick.delivery.interface import Attachment
from tallystick.delivery.interface import Message as News


class Mailbox:
    """An SMTP handler that keeps what it is given, or refuses it."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.refusal: str | None = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusal:
            return self.refusal
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


def test_email(tmp_path: Path) -> None:
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:

        async def work() -> None:
            server = SmtpServer("127.0.0.1", port, "none", "", "", "Tallystick <t@example.com>")
            async with rigged(tmp_path, smtp=server) as rig:
                rig.add("ops", type="email", to=("a@example.com", "b@example.com"), signature=None)
                name = rig.tell("disk", "ops")
                mailbox.refusal = "451 later"
                await rig.step()
                first = rig.delivery(name)
                assert (first.status, first.last_error, first.last_status) == ("pending", "status", 451)
                mailbox.refusal = None
                await rig.step(seconds=5)
                assert rig.delivery(name).status == "delivered"
                [(to, mail)] = mailbox.mails
                assert to == ["a@example.com", "b@example.com"]
                assert mail["Subject"] == "disk is up"
                assert mail["Message-ID"] == f"<{name}@example.com>"
                assert "n: disk" in str(mail.get_payload())
                mailbox.refusal = "550 never"
                other = rig.tell("other", "ops")
                await rig.step()
                assert rig.delivery(other).status == "dead", "a permanent refusal is final"

        asyncio.run(work())
    finally:
        controller.stop()


def test_a_file_goes_with_a_mail() -> None:
    news = News("dlv_1", "report.ready", "Tokens: 5", b'{"data": {"report": "daily"}}', 0)
    file = Attachment("däily.csv", "text/csv", b"a,b\r\n")
    mail = composed(replace(news, attachment=file), EmailTarget(("a@example.com",)), "t@example.com")
    text, attached = mail.iter_parts()
    assert "report: daily" in text.get_content()
    assert (attached.get_filename(), attached.get_content_type()) == ("däily.csv", "text/csv")
    assert attached.get_payload(decode=True) == b"a,b\r\n"
    assert attached.get_content_disposition() == "attachment"


def test_a_report_is_mailed_with_its_file(tmp_path: Path) -> None:
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    files = {"rrun_1": ReportFile("daily.pdf", "application/pdf", b"%PDF-1.7")}
    try:

        async def work() -> None:
            server = SmtpServer("127.0.0.1", port, "none", "", "", "t@example.com")
            async with rigged(tmp_path, smtp=server, file_of=lambda _, run: files.get(run)) as rig:
                rig.add("ops", type="email", to=("a@example.com",), signature=None)
                for run in ("rrun_1", "rrun_0"):
                    notice = Notice(TENANT, run, REPORT_KIND, "Tokens: 5", {}, NOW_US, channels=("ops",))
                    rig.catalog.enqueue(notice, now_us=NOW_US)
                await rig.step()
                [(_, mail)] = mailbox.mails
                assert [part.get_content_type() for part in mail.walk()][1:] == [
                    "text/plain",
                    "application/pdf",
                ]
                kept = {one.notice: one for one in rig.catalog.deliveries(TENANT, DeliverySearch()).items}
                assert kept["rrun_1"].status == "delivered"
                assert (kept["rrun_0"].status, kept["rrun_0"].last_error) == ("dead", "report_file_gone")

        asyncio.run(work())
    finally:
        controller.stop()


def test_email_that_is_not_set_up(tmp_path: Path) -> None:
    async def work() -> None:
        async with rigged(tmp_path) as rig:
            rig.add("ops", type="email", to=("a@example.com",), signature=None)
            name = rig.tell("disk", "ops")
            await rig.step()
            assert rig.delivery(name).last_error == "email_not_configured"

    asyncio.run(work())


def test_slack(tmp_path: Path) -> None:
    with receiving() as receiver:

        async def work() -> None:
            async with rigged(tmp_path) as rig:
                rig.add("team", receiver.url("/services/T0/SECRET"), type="slack", signature=None)
                name = rig.tell("<disk> & co", "team")
                await rig.step()
                [got] = receiver.received
                assert got.document["text"] == "&lt;disk&gt; &amp; co is up"
                assert got.document["blocks"][0]["text"]["type"] == "mrkdwn"
                assert got.document["blocks"][1]["fields"][0]["text"] == "*n*\n&lt;disk&gt; &amp; co"
                found = rig.delivery(name)
                assert found.status == "delivered"
                assert "SECRET" not in repr(rig.catalog.delivery_attempts(found))

        asyncio.run(work())


@pytest.mark.parametrize("text", ["a@example.com", "first.last+tag@sub.example.org"])
def test_addresses(text: str) -> None:
    assert checked_address(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "@b.c", "a@", "a b@c.d", "a@b.c,d@e.f", "a@b.c\r\nBcc: x@y.z", "<a@b.c>", "A <a@b.c>", "a@" + "b" * 260],
)  # fmt: skip
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="e-mail"):
        checked_address(text)


def test_nothing_gets_into_a_header() -> None:
    news = News("dlv_1", "alert.fired", "up\r\nBcc: x@y.z\n\nbody", b'{"data":{}}', 0)
    mail = composed(news, EmailTarget(("a@b.c",)), "t@example.com")
    assert mail["Bcc"] is None
    assert mail["Subject"] == "up Bcc: x@y.z body"
