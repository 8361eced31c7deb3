// lib.mjs: for the tests of this folder: named checks, conditions that are waited for, servers of
// one's own. Packages are those of gateway/web.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { setTimeout as rest } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../..", import.meta.url));
export const build = path.resolve(root, process.env.BUILD ?? "build");
export const require = createRequire(path.join(root, "gateway/web/package.json"));
export const WebSocket = require("ws");

export const url = process.env.LOQUAT_URL ?? "";
export const wsUrl = (base = url) => `${base.replace(/^http/, "ws")}/v1/ws`;
export const tokens = Object.fromEntries(
  ["alice", "bob", "carol", "mallory", "admin"].map((user) => [
    user,
    process.env[`LOQUAT_TOKEN_${user.toUpperCase()}`] ?? "",
  ]),
);
export const SUBPROTOCOL = "loquat.v1.json";
/** Anything that takes longer than this does not happen. */
export const PATIENCE_MS = 15_000;
const TEST_MS = 120_000;

let passed = 0;
let failed = 0;
const tests = [];

export function test(name, run) {
  tests.push({ name, run });
}

/** Runs what was declared, or what an argument is part of the name of; then prints the count. */
export async function runTests() {
  const only = process.argv.slice(2);
  for (const { name, run } of tests) {
    if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
    const timer = new AbortController();
    const since = Date.now();
    const took = () => `${((Date.now() - since) / 1000).toFixed(1)} s`;
    try {
      const late = rest(TEST_MS, null, { signal: timer.signal }).then(() => {
        throw new Error(`still going after ${TEST_MS} ms`);
      });
      late.catch(() => undefined);
      await Promise.race([run(), late]);
      passed++;
      console.log(`ok    ${name} (${took()})`);
    } catch (err) {
      failed++;
      console.log(`FAIL  ${name} (${took()})\n${err.stack ?? err}`);
    }
    timer.abort();
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

/** Waits until `condition` gives something true, and gives that. */
export async function until(what, condition, ms = PATIENCE_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await rest(10);
  }
}

export function scratch(name) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), `loquat-${name}-`));
  process.on("exit", () => fs.rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A server of one's own on loopback; `dir` and `listen` bring an earlier one back. */
export class Server {
  static async start(dir = scratch("server"), listen = "127.0.0.1:0") {
    const server = new Server();
    server.dir = dir;
    server.secret = path.join(dir, "secret");
    if (!fs.existsSync(server.secret))
      fs.writeFileSync(server.secret, randomBytes(32).toString("hex"), { mode: 0o600 });
    const data = path.join(dir, "data");
    fs.mkdirSync(data, { recursive: true, mode: 0o700 });
    const args = ["--embed", data, "--listen", listen, "--auth-secret-file", server.secret];
    const log = fs.openSync(path.join(dir, "log"), "a");
    const child = spawn(path.join(build, "loquat-gateway"), args, {
      stdio: ["ignore", "pipe", log],
    });
    server.child = child;
    server.ended = new Promise((resolve) => child.once("exit", resolve));
    let out = "";
    child.stdout.on("data", (data) => (out += data));
    const kill = () => child.kill("SIGKILL");
    process.on("exit", kill);
    void server.ended.then(() => process.off("exit", kill));
    server.listen = await until("the server is ready", () => {
      if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
      return /^ready .*listen=(\S+)/m.exec(out)?.[1];
    });
    server.url = `http://${server.listen}`;
    return server;
  }

  token(user, ttl = "1d", scope = "") {
    return run("loquat-log", [
      "token",
      "--user",
      user,
      "--ttl",
      ttl,
      "--secret-file",
      this.secret,
      ...(scope ? ["--scope", scope] : []),
    ]);
  }

  async stop(signal = "SIGTERM") {
    this.child.kill(signal);
    const status = await this.ended;
    if (signal === "SIGTERM" && status !== 0) {
      const log = fs.readFileSync(path.join(this.dir, "log"), "utf8");
      throw new Error(`the server ended with ${status}:\n${log.slice(-4000)}`);
    }
  }
}

/** Runs one of the programs to its end and gives what it printed. */
export async function run(program, args) {
  const child = spawn(path.join(build, program), args, {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  const status = await new Promise((resolve) => child.once("close", resolve));
  if (status !== 0) throw new Error(`${program} ended with ${status}`);
  return out.trim();
}
