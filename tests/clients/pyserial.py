"""A pyserial application: writes to the port at URL (a tty, or rfc2217://HOST:PORT) at one baud rate after the other and
reads the echo of all.

    python3 pyserial.py URL SIZE BAUD...

It does not wait for the echo before it changes the rate: what it wrote before has to arrive at the old one. The bytes
written at the first rate are all 0, at the second 1, and so on.

A PTY needs some help, because its kernel does not tell when an application wrote and when it changed the rate, only that
it did: flush() returns at once there, so wait as long as the bytes take on a line; and wait a moment, as esptool does,
before writing at the new rate. Over rfc2217:// nothing of this is needed. There it then sets a framing that a PTY cannot
have, 7e2, and writes once more; it opens with 8n1.
"""
import sys
import time

import serial

url, size, bauds = sys.argv[1], int(sys.argv[2]), [int(b) for b in sys.argv[3:]]
port = serial.serial_for_url(url, baudrate=bauds[0], timeout=20)
remote = url.startswith("rfc2217:")
blocks = [bytes([i]) * size for i in range(len(bauds))]
for baud, block in zip(bauds, blocks):
    if port.baudrate != baud:
        port.baudrate = baud
        if not remote:
            time.sleep(0.05)
    port.write(block)
    if not remote:
        port.flush()
        time.sleep(size * 10 / baud)
if remote:
    port.bytesize, port.parity, port.stopbits = 7, "E", 2
    blocks.append(bytes([len(bauds)]) * size)
    port.write(blocks[-1])
want = b"".join(blocks)
got = port.read(len(want))
if got != want:
    sys.exit("the echo of %d bytes is not the %d that were written" % (len(got), len(want)))
port.close()
