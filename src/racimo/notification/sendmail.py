"""Mail through the machine's own mail program, such as postfix's or msmtp's sendmail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from racimo.model.notification import Origin
from racimo.notification.mail import as_mail
from racimo.notification.undelivered import Undelivered

if TYPE_CHECKING:
    from racimo.model.notification import Message, Target

PROGRAM = "/usr/sbin/sendmail"


async def hand_to_sendmail(
    message: Message, target: Target, datacenter: str, host: str, timeout: float, program: str = PROGRAM
) -> None:
    """Hand it over within ``timeout`` seconds; what becomes of it then, its log says. Raises ``Undelivered``."""
    mail = as_mail(message, target, datacenter, host)
    argv = [program, "-i", *(["-f", target.from_address] if target.from_address else []), "--", *target.mailto]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise Undelivered(
            f"{program} on {host}: {error.strerror}; install a mail program, such as postfix or msmtp-mta",
            passed_over=target.origin is Origin.BUILTIN,
        ) from error
    try:
        async with asyncio.timeout(timeout):
            _, said = await process.communicate(mail.as_bytes())
    except TimeoutError:
        raise Undelivered(f"{program} did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = " ".join(said.decode(errors="replace").split())
        raise Undelivered(f"{program} ended with {process.returncode}: {words}")
