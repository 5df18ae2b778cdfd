"""The process that syncs a journal's files: started as a script, with a socket as its stdin.

It imports nothing but the standard library, and little of that, so that it starts quickly. Each
message is one byte: USE comes with the file's descriptor and is not answered; SYNC has it synced;
MOVE, with the next file's and the directory's, has all three synced and goes on with that file. The
answer is a byte too: an errno, 0 for none. It ends with its socket's other end.
"""

import errno
import os
import socket
from typing import Final

USE: Final = b"u"
SYNC: Final = b"s"
MOVE: Final = b"m"


def serve(connection: socket.socket) -> None:
    """Do what is asked until the other end is closed."""
    sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has none
    file = -1
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, 1, 2)
        if not message:
            return
        if message == USE:
            (file,) = descriptors
            continue
        code = 0
        try:
            sync_data(file)
            if message == MOVE:
                former, (file, directory) = file, descriptors
                os.close(former)
                sync_data(file)
                os.fsync(directory)
                os.close(directory)
        except OSError as error:
            code = error.errno or errno.EIO
        connection.sendall(bytes((code,)))


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
