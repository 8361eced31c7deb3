// page_smooth.mjs: a conversation of 140,000 messages is scrolled through by the wheel, and what the
// page's main thread has to do for each frame is counted. The messages are those of the data set
// (LOQUAT_DATASET, ../shared/data) where it is there, else made up.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { build, root, runTests, Server, test } from "./lib.mjs";
import { conv, finish, open } from "./page_lib.mjs";

const COUNT = 140_000;
const NAME = "dspace/duraspace"; // the longest one of the data set
const SECONDS = 3;
const FRAME_MS = 1000 / 60;
/** Elements of the whole page, and bytes that its JavaScript keeps. */
const ELEMENTS_MAX = 1500;
const HEAP_MAX = 12 << 20;

const WORDS =
  "the a build fails on my machine with this patch and I have no idea why it does so";

/** An archive, as `loquat-log import` takes it. */
function* madeUp() {
  const words = WORDS.split(" ");
  let random = 1;
  const next = (n) => (random = (random * 48271) % 0x7fffffff) % n;
  for (let i = 0; i < COUNT; i++) {
    const length = 1 + next(next(8) === 0 ? 80 : 16);
    const text = Array.from({ length }, () => words[next(words.length)]).join(" ");
    // To one of long ago: an import waits until it knows where that one stands.
    const reply_to = next(10) === 0 && i > 5000 ? i - 2000 - next(2000) : null;
    const from = `user${next(30)}`;
    yield `${JSON.stringify({ conv: NAME, ts: 1.4e12 + i * 60_000, from, text, reply_to })}\n`;
  }
}

/** The importer is a member of what it brings. */
async function importInto(server) {
  const data = process.env.LOQUAT_DATASET ?? path.join(root, "../shared/data");
  const file = path.join(data, "chat-en.jsonl.zst");
  const token = await server.token("root", "1d", "admin");
  const env = { ...process.env, LOQUAT_URL: server.url, LOQUAT_TOKEN: token };
  const made = !fs.existsSync(file);
  const from = made ? "cat" : `zstd -dcq '${file}' | grep -F '{"conv":"${NAME}"'`;
  const work = `set -o pipefail; ${from} | '${build}/loquat-log' import --json -`;
  const child = spawn("bash", ["-c", work], { env, stdio: ["pipe", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  const closed = new Promise((resolve) => child.once("close", resolve));
  child.stdin.end(made ? [...madeUp()].join("") : "");
  assert.equal(await closed, 0, "the import");
  const { lines, rate } = JSON.parse(out);
  console.log(`      ${lines} messages ${made ? "made up" : "of the data set"}, ${rate}/s`);
  assert.ok(lines >= COUNT);
  const headers = { authorization: `Bearer ${token}` };
  const { convs } = await (await fetch(`${server.url}/v1/conversations`, { headers })).json();
  return convs.find(({ name }) => name === NAME).c;
}

const at = (sorted, part) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
const ms = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  return [0.5, 0.95, 0.99, 1].map((part) => at(sorted, part).toFixed(1)).join(" / ");
};

/** Turns the wheel by `step` px about as often as a screen shows a frame. */
async function wheel(page, step, seconds) {
  const end = Date.now() + seconds * 1000;
  for (let next = Date.now(); next < end; next += FRAME_MS) {
    await page.mouse.wheel(0, step);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - Date.now())));
  }
}

/**
 * What the main thread did while `work` ran, frame by frame: processor time, so that whatever else
 * the machine does counts little. And the time from frame to frame, in which everything counts.
 */
async function frames(page, work) {
  const cdp = await page.context().newCDPSession(page);
  const events = [];
  cdp.on("Tracing.dataCollected", ({ value }) => events.push(...value));
  const categories = "devtools.timeline,disabled-by-default-devtools.timeline";
  await cdp.send("Tracing.start", { transferMode: "ReportEvents", categories });
  const gaps = page.evaluate(
    () =>
      new Promise((resolve) => {
        const gaps = [];
        let last = performance.now();
        window.enough = () => resolve(gaps);
        const frame = (now) => {
          gaps.push(now - last);
          last = now;
          requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
      }),
  );
  await work();
  await page.evaluate(() => window.enough());
  const complete = new Promise((resolve) => cdp.once("Tracing.tracingComplete", resolve));
  await cdp.send("Tracing.end");
  await complete;
  await cdp.detach();
  return { ...byFrame(events), gaps: (await gaps).slice(1) };
}

/** Script, style and layout; they lie in each other. */
const WORK = [
  "EventDispatch",
  "FunctionCall",
  "FireAnimationFrame",
  "TimerFire",
  "RunMicrotasks",
];
WORK.push("UpdateLayoutTree", "Layout");

/**
 * Milliseconds of each frame, from the task that runs its callbacks to the next such task: of script
 * and layout, and of all that the main thread does, painting and collecting garbage, too.
 */
function byFrame(events) {
  const [{ pid, tid }] = events.filter(({ name }) => name === "FireAnimationFrame");
  const mine = events
    .filter((event) => event.pid === pid && event.tid === tid)
    .sort((a, b) => a.ts - b.ts);
  const starts = mine.filter(({ name }) => name === "FireAnimationFrame").map(({ ts }) => ts);
  const [work, all] = [[], []];
  let over = 0; // the end of the outermost piece of work
  for (const { name, ts, dur, tdur = 0 } of mine) {
    if (name === "RunTask") {
      if (starts[0] < ts + dur) all.push(0) && work.push(0);
      while (starts[0] < ts + dur) starts.shift();
      if (all.length > 0) all[all.length - 1] += tdur / 1000;
    } else if (WORK.includes(name) && ts >= over && dur !== undefined) {
      over = ts + dur;
      if (work.length > 0) work[work.length - 1] += tdur / 1000;
    }
  }
  return { work, all };
}

async function kept(page) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize } = await cdp.send("Runtime.getHeapUsage");
  await cdp.detach();
  return { heap: usedSize, elements: await page.evaluate(() => document.all.length) };
}

test("140,000 messages under the wheel: no frame's work takes longer than the frame", async () => {
  const server = await Server.start();
  const c = await importInto(server);
  const page = await open(null);
  await page.goto(`${server.url}/#token=${await server.token("root")}`);
  await page.click(conv(c));
  await page.waitForSelector(".block [data-s]");
  await page.click(".to-end", { timeout: 3000 }).catch(() => undefined);
  await page.waitForSelector(".to-end", { state: "detached" });
  await page.waitForSelector(".block [data-s]");
  const first = await kept(page);
  await page.mouse.move(700, 400);
  const place = () =>
    page.evaluate(() => Number(document.querySelector(".scroller [data-s]").dataset.s));
  for (const [name, step, most] of [
    ["reading on", -120, FRAME_MS],
    ["in haste", -1000, 2 * FRAME_MS], // 60,000 px a second: nobody sees anything
    ["back", 300, FRAME_MS],
  ]) {
    const before = await place();
    const { work, all, gaps } = await frames(page, () => wheel(page, step, SECONDS));
    const passed = Math.abs((await place()) - before);
    const now = await kept(page);
    const p95 = at(
      work.toSorted((a, b) => a - b),
      0.95,
    );
    console.log(
      `      ${name}: ${passed} messages; ms, p50 / p95 / p99 / most:` +
        ` script and layout ${ms(work)}, main thread ${ms(all)}, frame to frame ${ms(gaps)};` +
        ` ${work.length} frames,` +
        ` ${now.elements} elements, ${(now.heap / (1 << 20)).toFixed(1)} MiB`,
    );
    assert.ok(passed > 200, `${passed} messages`);
    assert.ok(work.length > 30, `${work.length} frames`);
    assert.ok(p95 < most, `${name}: ${p95} ms`);
    assert.ok(now.elements < ELEMENTS_MAX, `${now.elements} elements`);
    assert.ok(now.heap < HEAP_MAX, `${now.heap} bytes, ${first.heap} at first`);
  }
  await finish(page);
  await server.stop();
});

await runTests();
