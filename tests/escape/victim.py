"""A process outside that runs as the job's user: secrets in its memory, environment and keys; writes signals down.

``python victim.py NOTES MEMORY_SECRET KEY_NAME KEY_SECRET ADDRESS``; its environment holds another. The standard
library alone, since it runs as somebody else. Says its number.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys

_SIGNALFD_SIZE, _INT_AT = 128, 44
_ADD_KEY, _KEYCTL, _SET_TIMEOUT, _USER_KEYRING = 248, 250, 15, -4
_KEY_LIVES_S = 900
"""Its keyring is the user's, outlives the machine, and has room for two hundred."""


def main() -> None:
    """Be there, until killed."""
    notes, memory, key_name, key, address = sys.argv[1:6]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(4, 1)  # dumpable, as an ordinary process is; changing the user took that away
    kept = ctypes.create_string_buffer(memory.encode()[::-1])
    ctypes.memmove(kept, memory.encode(), len(memory))
    number = libc.syscall(_ADD_KEY, b"user", key_name.encode(), key.encode(), len(key), _USER_KEYRING)
    if number < 0 or libc.syscall(_KEYCTL, _SET_TIMEOUT, number, _KEY_LIVES_S):
        raise OSError(ctypes.get_errno(), "the victim's key could not be kept")
    book = os.open(notes, os.O_WRONLY | os.O_APPEND)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((address, 443))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    wanted = (1 << (signal.SIGUSR1 - 1)).to_bytes(128, "little")
    number = libc.signalfd(-1, wanted, 0)
    print(os.getpid(), flush=True)
    while text := os.read(number, _SIGNALFD_SIZE):
        value = struct.unpack_from("=i", text, _INT_AT)[0]
        os.write(book, (json.dumps({"by": "signal", "text": f"signal {value:07x}"}) + "\n").encode())


main()
