// A Z-Wave stick: the mock controller of zwave-js with one switch (node 2), on TCP.
//
//   node zwave_stick.cjs HOST PORT
//
// The mock takes each chunk that it reads for one frame, which a byte stream does not promise. So what arrives is cut into
// frames here (ACK, NAK, CAN: one byte; 0x01, length: a frame) and handed over one after the other. Prints a line for each
// frame but those of one byte: "host HEX" for one that it got, "again HEX" for one that it sends once more.
"use strict";
const path = require("node:path");

const root = path.dirname(require.resolve("zwave-js/package.json"));
const { MockServer } = require(path.join(root, "build/cjs/mockServer.js"));

/** Cuts a byte stream into frames; bytes that start no frame are dropped, as a stick does. */
class Framer {
  #rest = Buffer.alloc(0);

  /** @returns {Buffer[]} the frames that are complete now */
  push(chunk) {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const frames = [];
    for (;;) {
      const size = this.#frameSize();
      if (size === 0 || size > this.#rest.length) return frames;
      const frame = this.#rest.subarray(0, size);
      this.#rest = this.#rest.subarray(size);
      if ([0x01, 0x06, 0x15, 0x18].includes(frame[0])) frames.push(frame);
    }
  }

  #frameSize() {
    if (this.#rest.length === 0) return 0;
    if (this.#rest[0] !== 0x01) return 1;
    return this.#rest.length < 2 ? 0 : this.#rest[1] + 2;
  }
}

/** How long a Z-Wave chip waits for the ACK of a frame in ms, and how often it sends it (Silicon Labs INS12350). */
const ACK_WAIT = 1600;
const SENDS = 4;

/**
 * Makes the mock repeat a frame that gets no ACK, as a stick does, and go on without if none comes. By itself it waits for
 * one second and then forgets what else it had to say to the host.
 */
function repeat(controller) {
  const { mockPort } = controller;
  const emit = mockPort.emitData.bind(mockPort);
  let last;
  mockPort.emitData = (data) => {
    if (data.length > 1) last = data;
    emit(data);
  };
  const expectHostACK = controller.expectHostACK.bind(controller);
  controller.expectHostACK = async () => {
    const frame = last; // who calls this has sent it just now
    for (let sends = 1; ; sends++) {
      try {
        return await expectHostACK(ACK_WAIT);
      } catch {
        if (sends === SENDS) return;
        console.log(`again ${Buffer.from(frame).toString("hex")}`);
        emit(frame);
      }
    }
  };
}

async function main(host, port) {
  const stick = new MockServer({
    interface: host,
    port,
    config: {
      nodes: [{
        id: 2,
        capabilities: { commandClasses: [0x25 /* Binary Switch */, 0x72 /* Manufacturer Specific */, 0x86 /* Version */] },
      }],
    },
  });
  await stick.start();
  repeat(stick.mockController);

  const framer = new Framer();
  const serial = stick.serialport;
  const write = serial.writeAsync.bind(serial);
  let last = Promise.resolve();
  serial.writeAsync = (chunk) => {
    for (const frame of framer.push(Buffer.from(chunk))) {
      if (frame.length > 1) console.log(`host ${frame.toString("hex")}`);
      last = last.then(() => write(frame));
    }
    return last;
  };
  // The mock throws where nobody catches it when the host does what it did not expect. A stick would go on.
  process.on("unhandledRejection", (err) => console.error("stick:", err.message));
  console.log("stick ready");
  process.on("SIGTERM", () => process.exit(0));
}

main(process.argv[2], Number(process.argv[3])).catch((err) => {
  console.error(err);
  process.exit(1);
});
