// A Z-Wave stick: the mock controller of zwave-js with one switch (node 2), on TCP.
//
//   node stick.cjs HOST PORT
//
// The mock takes each chunk that it reads for one frame, which a byte stream does not promise. So what arrives is cut into
// frames here (ACK, NAK, CAN: one byte; 0x01, length: a frame) and handed over one after the other.
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

  const framer = new Framer();
  const serial = stick.serialport;
  const write = serial.writeAsync.bind(serial);
  let last = Promise.resolve();
  serial.writeAsync = (chunk) => {
    for (const frame of framer.push(Buffer.from(chunk))) last = last.then(() => write(frame));
    return last;
  };
  // The mock waits 1 s for an ACK and then throws where nobody catches it. A stick would go on, and so does this one: on
  // a machine that is busy for a second the application repeats itself.
  process.on("unhandledRejection", (err) => console.error("stick:", err.message));
  console.log("stick ready");
  process.on("SIGTERM", () => process.exit(0));
}

main(process.argv[2], Number(process.argv[3])).catch((err) => {
  console.error(err);
  process.exit(1);
});
