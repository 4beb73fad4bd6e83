// A node-serialport application: writes to the tty at PATH at one baud rate after the other and reads the echo of the last.
//
//   node serialport.cjs PATH SIZE BAUD...
//
// It does not wait for the echo before it changes the rate: what it wrote before has to arrive at the old one. The bytes
// written at the first rate are all 0, at the second 1, and so on. Of the echo only that at the last rate is sure to come:
// with a change of the rate node-serialport drops what it has not read.
//
// It also drops what was not drained. On a PTY drain() returns at once, so this waits as long as the bytes take on a line;
// and a moment before it writes at the new rate, since a PTY does not tell in which order the two were done.
"use strict";
const { SerialPort } = require("serialport");

const call = (port, method, ...args) => new Promise((resolve, reject) => {
  port[method](...args, (err) => (err ? reject(err) : resolve()));
});

const passed = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function main(path, size, bauds) {
  const port = new SerialPort({ path, baudRate: bauds[0], hupcl: false, autoOpen: false });
  await call(port, "open");
  const closed = new Promise((_, reject) => port.once("close", (err) => reject(err ?? new Error("closed"))));
  closed.catch(() => {});
  let read = Buffer.alloc(0);
  const last = Buffer.alloc(size, bauds.length - 1);
  const echoed = new Promise((resolve) => port.on("data", (chunk) => {
    read = Buffer.concat([read, chunk]);
    if (read.length >= size && read.subarray(-size).equals(last)) resolve();
  }));
  for (const [i, baudRate] of bauds.entries()) {
    if (i > 0) {
      await call(port, "update", { baudRate });
      await passed(50);
    }
    await call(port, "write", Buffer.alloc(size, i));
    await call(port, "drain");
    await passed((size * 10_000) / baudRate);
  }
  await Promise.race([echoed, closed]);
  await call(port, "close");
}

main(process.argv[2], Number(process.argv[3]), process.argv.slice(4).map(Number)).then(
  () => process.exit(0),
  (err) => {
    console.error(err);
    process.exit(1);
  },
);
