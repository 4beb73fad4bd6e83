# Drives pyserial's RFC 2217 client against the server at argv[1]: everything
# it can set and read; with an argv[2] the line settings only once. Prints one line per step; exits with 1 on the first that
# fails. The port behind the server loops data, RTS to CTS and DTR to DSR, and
# cannot do more than 3,000,000 bit/s.
import sys
import time

import serial


def step(text):
    print(text, flush=True)


def until(what, condition):
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("timed out: " + what)
        time.sleep(0.01)


def refused(what, change):
    try:
        change()
    except ValueError as err:
        step("refused %s: %s" % (what, err))
    else:
        sys.exit("not refused: " + what)


begun = time.monotonic()
port = serial.serial_for_url(sys.argv[1], baudrate=57600, timeout=5)
step("open %.2f" % (time.monotonic() - begun))

everything = bytes(range(256)) * 4 + b"\xff\xff\xff\xf0\r\n\r\x00\r"
port.write(everything)
assert port.read(len(everything)) == everything, "data came back changed"
step("data")


def settings():
    for baud in serial.rfc2217.Serial.BAUDRATES + (65280, 250000, 460800, 921600, 3000000):
        port.baudrate = baud
    step("bauds")
    refused("baud", lambda: setattr(port, "baudrate", 4000000))
    port.baudrate = 9600

    for parity in "OEMSN":
        port.parity = parity
    for size in (7, 6, 5):
        port.bytesize = size
    port.stopbits = 1.5
    port.stopbits = 1
    port.bytesize = 8
    port.stopbits = 2
    refused("stop bits", lambda: setattr(port, "stopbits", 1.5))
    port.stopbits = 1
    step("framing")

    port.rtscts = True
    port.rtscts = False
    port.xonxoff = True
    port.xonxoff = False
    step("flow")


if len(sys.argv) < 3:
    settings()
else:
    port.baudrate = 9600

for on in (False, True, False):
    port.rts = on
    until("cts %s" % on, lambda: port.cts == on)
    port.dtr = on
    until("dsr %s" % on, lambda: port.dsr == on)
assert not port.ri and port.cd
step("lines")

port.break_condition = True
port.break_condition = False
port.send_break(0.01)
port.reset_input_buffer()
port.reset_output_buffer()
step("break and purge")

port.write(b"bye\xff")
assert port.read(4) == b"bye\xff"
port.close()
step("closed")
