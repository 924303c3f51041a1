"""`python -m stridelab.cli.open_page ADDRESS PORT`: in a browser, once a server on this machine answers."""

from __future__ import annotations

import socket
import sys
import time
import webbrowser

PATIENCE_S = 60


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(address: str, port: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if answers(port):
            webbrowser.open(address)
            return
        time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
