// A Z-Wave application: drives the stick at PATH (a tty, or tcp://host:port) with zwave-js.
//
//   node zwave_driver.cjs PATH CACHE_DIR WRITES
//
// Waits until the driver is ready and node 2 is interviewed, then writes its switch WRITES times and reads each value back
// from the device. With 0 it goes on until stdin ends, with pauses of up to 200 ms, and a write that fails is no reason to
// stop. Prints "ready ACK ATTEMPTS" (how long the driver waits for an ACK, in ms, and how often it sends a command that gets
// none), then a line "write N" or "failed N: WHY" for each, and one line of JSON at the end. The log of the driver goes to
// CACHE_DIR/driver_*.log.
"use strict";
const { Driver, InterviewStage, SetValueStatus } = require("zwave-js");

const CC_BINARY_SWITCH = 0x25;

function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Writes the switch and reads it back. */
async function write(node, i) {
  const value = i % 2 === 0;
  const id = { commandClass: CC_BINARY_SWITCH, endpoint: 0, property: "targetValue" };
  const answer = await within(60_000, `write ${i}`, node.setValue(id, value));
  const report = await within(60_000, `read ${i}`, node.commandClasses["Binary Switch"].get());
  if (![SetValueStatus.Success, SetValueStatus.SuccessUnsupervised].includes(answer.status)) {
    throw new Error(`write ${i}: ${SetValueStatus[answer.status]} ${answer.message ?? ""}`);
  }
  if (report?.currentValue !== value) throw new Error(`write ${i}: wrote ${value}, device has ${report?.currentValue}`);
}

async function main(path, dir, writes) {
  const started = performance.now();
  const since = () => Math.round(performance.now() - started);
  const driver = new Driver(path, {
    storage: { cacheDir: dir, deviceConfigPriorityDir: dir },
    logConfig: { enabled: true, level: "debug", logToFile: true, filename: `${dir}/driver`, forceConsole: false },
  });
  const result = { path, errors: [] };
  driver.on("error", (err) => result.errors.push(String(err.message ?? err)));

  const ready = new Promise((resolve) => driver.once("driver ready", resolve));
  await driver.start();
  await within(30_000, "driver ready", ready);
  result.driverReadyMs = since();

  const node = driver.controller.nodes.getOrThrow(2);
  if (!node.ready) await within(60_000, "node ready", new Promise((resolve) => node.once("ready", resolve)));
  if (node.interviewStage !== InterviewStage.Complete) {
    await within(60_000, "interview completed", new Promise((resolve) => node.once("interview completed", resolve)));
  }
  result.interviewMs = since();
  result.interviewStage = InterviewStage[node.interviewStage];

  const { timeouts, attempts } = driver.options;
  console.log(`ready ${timeouts.ack} ${attempts.controller}`);

  let ended = false;
  if (writes === 0) process.stdin.resume().on("end", () => { ended = true; });
  result.writes = 0;
  for (let i = 0; writes === 0 ? !ended : i < writes; i++) {
    try {
      await write(node, i);
      result.writes++;
      console.log(`write ${i}`);
    } catch (err) {
      console.log(`failed ${i}: ${err.message}`);
      if (writes > 0) throw err;
    }
    if (writes === 0) await new Promise((resolve) => setTimeout(resolve, 200 * Math.random()));
  }
  result.totalMs = since();
  const statistics = driver.controller.statistics;
  result.statistics = {
    NAK: statistics.NAK, CAN: statistics.CAN, timeoutACK: statistics.timeoutACK,
    timeoutResponse: statistics.timeoutResponse, timeoutCallback: statistics.timeoutCallback,
    messagesDroppedRX: statistics.messagesDroppedRX, messagesDroppedTX: statistics.messagesDroppedTX,
  };
  await driver.destroy();
  console.log(JSON.stringify(result));
}

main(process.argv[2], process.argv[3], Number(process.argv[4])).then(
  () => process.exit(0),
  (err) => {
    console.error(err);
    process.exit(1);
  },
);
