"""``python -m racimo.access.pam_helper``: asks PAM whether a password is right, in a process of its own.

Reads one JSON object ``{"service", "user", "password"}`` on standard input and says ``ok`` or why not on standard
output: nothing secret is in the process list, and a module that hangs or crashes takes this process alone with it.
Written against pam(3), pam_start(3) and pam_conv(3).
"""

from __future__ import annotations

import ctypes
import json
import sys

PAM_SUCCESS, PAM_CONV_ERR, PAM_BUF_ERR = 0, 19, 5
PAM_PROMPT_ECHO_OFF, PAM_PROMPT_ECHO_ON = 1, 2
PAM_SILENT = 0x8000
MAX_INPUT = 65536


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("code", ctypes.c_int))


_Conversation = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)),
    ctypes.c_void_p,
)


class _Conv(ctypes.Structure):
    _fields_ = (("ask", _Conversation), ("context", ctypes.c_void_p))


def check(service: str, user: str, password: str, configuration: str = "") -> str:
    """``ok``, or what PAM says. ``configuration`` is a folder in place of /etc/pam.d.

    Raises ``OSError`` where there is no PAM.
    """
    pam, libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL(None)
    libc.calloc.restype, libc.calloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_size_t)
    libc.strdup.restype, libc.strdup.argtypes = ctypes.c_void_p, (ctypes.c_char_p,)
    pam.pam_strerror.restype, pam.pam_strerror.argtypes = ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_int)
    pam.pam_start.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(_Conv), ctypes.POINTER(ctypes.c_void_p))
    for name in ("pam_authenticate", "pam_acct_mgmt", "pam_end"):
        getattr(pam, name).argtypes = (ctypes.c_void_p, ctypes.c_int)
    secret = password.encode()

    def ask(count: int, messages: object, responses: object, context: object) -> int:
        """Answer each prompt: the password where nothing is echoed, else the name. PAM frees what is handed over."""
        block = libc.calloc(count, ctypes.sizeof(_Response))
        if not block:
            return PAM_BUF_ERR
        answers = ctypes.cast(block, ctypes.POINTER(_Response))
        for n in range(count):
            style = messages[n].contents.style  # type: ignore[index]
            if style == PAM_PROMPT_ECHO_OFF:
                answers[n].text = libc.strdup(secret)
            elif style == PAM_PROMPT_ECHO_ON:
                answers[n].text = libc.strdup(user.encode())
        responses[0] = answers  # type: ignore[index]
        return PAM_SUCCESS

    handle, conversation = ctypes.c_void_p(), _Conv(_Conversation(ask), None)
    begun = (service.encode(), user.encode(), ctypes.byref(conversation))
    if configuration:
        code = pam.pam_start_confdir(*begun, configuration.encode(), ctypes.byref(handle))
    else:
        code = pam.pam_start(*begun, ctypes.byref(handle))
    if code != PAM_SUCCESS:
        return f"PAM could not be started ({code})"
    try:
        code = pam.pam_authenticate(handle, PAM_SILENT)
        if code == PAM_SUCCESS:
            code = pam.pam_acct_mgmt(handle, PAM_SILENT)
        return "ok" if code == PAM_SUCCESS else pam.pam_strerror(handle, code).decode(errors="replace")
    finally:
        pam.pam_end(handle, code)


def main() -> int:
    """Ask once. Exit code 0: right; 1: not; 2: PAM could not be asked."""
    try:
        asked = json.loads(sys.stdin.buffer.read(MAX_INPUT))
        service, user, password = (str(asked[name]) for name in ("service", "user", "password"))
        if not user or any("\x00" in text for text in (service, user, password)):
            raise ValueError("no text for PAM")
        said = check(service, user, password, str(asked.get("configuration", "")))
    except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
        print(f"{type(error).__name__}")  # noqa: T201 - without its words: they might show what was read
        return 2
    print(said)  # noqa: T201
    return 0 if said == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
