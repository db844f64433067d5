# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.end_to_end.packet_capture FILE`: every frame that enters the ports of this namespace's bridge.

Says `ready` on stdout, appends frames to FILE until SIGTERM, then prints `{"frames", "lost"}`. Needs root.
"""

import json
import signal
import socket
import struct
import sys
from pathlib import Path

ALL_PROTOCOLS = 0x0003  # ETH_P_ALL, <linux/if_ether.h>
BUFFER_BYTES = 64 << 20
LONGEST_FRAME = 1 << 18  # segmentation offload makes frames of 64 KiB, and BIG TCP longer ones
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33  # <linux/socket.h>, <linux/if_packet.h>, <asm/socket.h>
BRIDGE = "br0"  # would show again what its ports have shown


def main(path: Path) -> None:
    """Capture until told to stop."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    frames = 0
    with path.open("wb") as file, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        raw.settimeout(0.1)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            try:
                frame, (interface, _, kind, *_) = raw.recvfrom(LONGEST_FRAME)
            except TimeoutError:
                if stopping:
                    break
                continue
            if kind != socket.PACKET_OUTGOING and interface != BRIDGE:
                file.write(frame)
                frames += 1
        _, lost = struct.unpack("II", raw.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    sys.stdout.write(json.dumps({"frames": frames, "lost": lost}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
