"""E-mail by SMTP (RFC 5321), through the server the settings name."""

import asyncio
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr

from tallystick.delivery.interface import ANSWER_BYTES_MAX, Message, Sent
from tallystick.delivery.words import members

ADDRESS_CHARACTERS_MAX = 254
SUBJECT_CHARACTERS_MAX = 200
_THREADS = 8


@dataclass(frozen=True, slots=True)
class EmailTarget:
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """`tls`: "starttls", "tls" (from the first byte) or "none"."""

    host: str
    port: int
    tls: str
    user: str
    password: str = field(repr=False)
    sender: str = ""


def checked_address(text: str) -> str:
    """Raises ValueError with a sentence: only plain addresses, so that nothing can be smuggled into a header."""
    name, _, domain = text.rpartition("@")
    if (
        not name
        or "." not in f"{domain}."
        or not domain
        or len(text) > ADDRESS_CHARACTERS_MAX
        or not text.isprintable()
        or any(character in ' ,;:<>()[]"\\' for character in text)
        or parseaddr(text)[1] != text
    ):
        raise ValueError(f"{text[:60]!r} is no e-mail address.")
    return text


class EmailSender:
    """Messages for people: the summary as subject, the data line by line. `server` None: none is set up."""

    def __init__(self, server: SmtpServer | None, *, time_s_max: float) -> None:
        self._server = server
        self._time_s_max = time_s_max
        # Of its own: a mail server that hangs must not hold threads that others wait for.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="smtp")

    async def send(self, message: Message, target: EmailTarget) -> Sent:
        shown = "mailto:" + ",".join(target.to)
        if self._server is None:
            return Sent(
                shown, error="email_not_configured", detail="Set smtp_host and smtp_from to send e-mail."
            )
        mail = composed(message, target, self._server.sender)
        headers = {name.lower(): str(value) for name, value in mail.items()}
        server = self._server
        try:
            async with asyncio.timeout(self._time_s_max * 2):
                refused = await asyncio.get_running_loop().run_in_executor(
                    self._threads, lambda: _deliver(server, mail, target.to, self._time_s_max)
                )
        except TimeoutError:
            return Sent(shown, headers, error="timed_out", detail="The mail server did not answer in time.")
        except smtplib.SMTPRecipientsRefused as error:
            code, words = next(iter(error.recipients.values()))
            return _refusal(shown, headers, code, words)
        except smtplib.SMTPResponseException as error:
            return _refusal(shown, headers, error.smtp_code, error.smtp_error)
        except ssl.SSLError as error:
            return Sent(shown, headers, error="tls_failed", detail=str(error)[:ANSWER_BYTES_MAX])
        except (OSError, smtplib.SMTPException) as error:
            return Sent(shown, headers, error="connect_failed", detail=str(error)[:ANSWER_BYTES_MAX])
        # Some have it: sending it to all of them again would be worse than saying who has not.
        detail = f"Refused for {', '.join(refused)}." if refused else None
        return Sent(shown, headers, status=250, detail=detail)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def composed(message: Message, target: EmailTarget, sender: str) -> EmailMessage:
    """The mail. Its Message-ID is made of the delivery's id, so that a mail sent twice can be told."""
    mail = EmailMessage()
    subject = " ".join(message.summary.split())[:SUBJECT_CHARACTERS_MAX]
    mail["Subject"] = subject
    mail["From"] = sender
    mail["To"] = ", ".join(target.to)
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at_s, UTC))
    mail["Message-ID"] = f"<{message.id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Tallystick-Kind"] = message.kind
    lines = [message.summary, "", *(f"{name}: {value}" for name, value in members(message.body))]
    mail.set_content("\n".join(lines) + "\n")
    if message.attachment is not None:
        kind, _, subtype = message.attachment.media_type.partition("/")
        mail.add_attachment(
            message.attachment.content,
            maintype=kind,
            subtype=subtype,
            filename=message.attachment.name,
        )
    return mail


def _deliver(
    server: SmtpServer, mail: EmailMessage, to: tuple[str, ...], time_s_max: float
) -> dict[str, tuple[int, bytes]]:
    """Who was refused."""
    context = ssl.create_default_context()
    if server.tls == "tls":
        made: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=time_s_max, context=context)
    else:
        made = smtplib.SMTP(server.host, server.port, timeout=time_s_max)
    with made as connection:
        if server.tls == "starttls":
            connection.starttls(context=context)
        if server.user:
            connection.login(server.user, server.password)
        return connection.send_message(mail, to_addrs=list(to))


def _refusal(shown: str, headers: dict[str, str], code: int, words: bytes | str) -> Sent:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return Sent(
        shown,
        headers,
        status=code,
        answer=text[:ANSWER_BYTES_MAX],
        error="status",
        detail=f"The mail server answered {code}.",
        # RFC 5321 section 4.2.1: 5yz is permanent.
        is_final=500 <= code < 600 and code not in (530, 535),
    )
