/** What running servers say of themselves, against the metrics that OPERATING.md, the alarms and the
 * dashboard name: all three are of use only for what is really there. */

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const ALERTS = "docs/examples/alerts.yml";
const DASHBOARD = "docs/examples/grafana-dashboard.json";
const WAIT_MS = 20_000;

/* ---- what is said ---- */

/** Names with their labels' values: { name → Map(label → Set of values) }. A histogram is there under
 * its own name and under those of its series. */
export function exposition(text) {
  const known = new Map();
  const series = (name) => known.get(name) ?? known.set(name, new Map()).get(name);
  for (const line of text.split("\n")) {
    const type = line.match(/^# TYPE (\S+) (\w+)$/);
    if (type) series(type[1]);
    const sample = line.match(/^([a-z0-9_]+)(?:\{(.*)\})? /);
    if (!sample) continue;
    for (const [, label, value] of (sample[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)) {
      const labels = series(sample[1]);
      if (!labels.has(label)) labels.set(label, new Set());
      labels.get(label).add(value);
    }
    series(sample[1]);
  }
  return known;
}

/** Metrics by the names of OPERATING.md: of a histogram not its series. */
function names(text) {
  return new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map((m) => m[1]));
}

/** Every name, and every value asked for of a label, in an expression. `rest`: names without one. */
export function expressionProblems(where, expr, known) {
  const problems = [];
  for (const [, name, selector] of expr.matchAll(/\b((?:loquat|process)_[a-z0-9_]+)(?:\{([^}]*)\})?/g)) {
    const labels = known.get(name);
    if (!labels) {
      problems.push(`${where}: there is no ${name}`);
      continue;
    }
    for (const [, label, op, values] of (selector ?? "").matchAll(/(\w+)(=~|=)"([^"]*)"/g)) {
      if (label === "instance") continue; // Prometheus gives it
      for (const value of op === "=~" ? values.split("|") : [values])
        if (!labels.get(label)?.has(value))
          problems.push(`${where}: ${name} has no ${label}="${value}"`);
    }
  }
  return problems;
}

/* ---- the dashboard ---- */

export function dashboardProblems(text, known) {
  let board;
  try {
    board = JSON.parse(text);
  } catch (error) {
    return [`${DASHBOARD}: ${error.message}`];
  }
  const problems = [];
  const variables = board.templating.list;
  const sources = variables.filter((v) => v.type === "datasource");
  if (sources.length !== 1 || sources[0].query !== "prometheus")
    problems.push("the dashboard has not one variable for Prometheus");
  const source = `\${${sources[0]?.name}}`;
  const ids = new Set();
  const titles = [];
  let queries = 0;
  for (const panel of board.panels) {
    const where = `panel ${panel.id} (${panel.title})`;
    if (!Number.isInteger(panel.id) || ids.has(panel.id)) problems.push(`${where}: its id`);
    ids.add(panel.id);
    const { x, y, w, h } = panel.gridPos;
    if (x < 0 || x + w > 24 || y < 0 || h < 1) problems.push(`${where}: its place`);
    if (panel.type === "row") titles.push(panel.title);
    else if (panel.datasource?.uid !== source) problems.push(`${where}: another source`);
    else if (!panel.targets?.length) problems.push(`${where}: no query`);
    const refs = new Set();
    for (const target of panel.targets ?? []) {
      queries++;
      if (refs.has(target.refId)) problems.push(`${where}: ${target.refId} twice`);
      refs.add(target.refId);
      if (target.datasource?.uid !== source) problems.push(`${where}: another source`);
      if (!/loquat_|process_/.test(target.expr)) problems.push(`${where}: asks for nothing of ours`);
      problems.push(...expressionProblems(where, target.expr, known));
    }
  }
  for (let i = 0; i < board.panels.length; i++)
    for (let k = i + 1; k < board.panels.length; k++) {
      const [a, b] = [board.panels[i].gridPos, board.panels[k].gridPos];
      if (a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h)
        problems.push(`panels ${board.panels[i].id} and ${board.panels[k].id} overlap`);
    }
  if (queries < 50 || titles.length < 7) problems.push(`${queries} queries, ${titles.length} rows`);
  return problems;
}

/* ---- OPERATING.md ---- */

const alertNames = (alerts) => new Set([...alerts.matchAll(/^ +- alert: (\w+)$/gm)].map((m) => m[1]));

/** All that is served is explained, and nothing else; so are bounds and alarms. */
export function operatingProblems(operating, alerts, text) {
  const problems = [];
  const served = names(text);
  const known = exposition(text);
  const named = new Set(operating.match(/\b(?:loquat|process)_[a-z0-9_]+/g));
  for (const name of served)
    if (!named.has(name)) problems.push(`OPERATING.md does not say what ${name} is`);
  for (const name of named)
    if (!known.has(name)) problems.push(`OPERATING.md has ${name}, no server does`);
  const listed = operating.match(/^\| bound \|[\s\S]*?\n\n/m)?.[0] ?? "";
  const cells = listed.split("\n").slice(2).map((row) => row.split("|")[1] ?? "");
  const bounds = new Set([...cells.join().matchAll(/`([a-z_]+)`/g)].map((m) => m[1]));
  const hits = known.get("loquat_bound_hits_total").get("bound");
  for (const bound of hits)
    if (!bounds.has(bound)) problems.push(`OPERATING.md does not explain the bound ${bound}`);
  for (const bound of bounds)
    if (!hits.has(bound)) problems.push(`OPERATING.md has the bound ${bound}, no server does`);
  const alarms = new Set([...operating.matchAll(/`(Loquat\w+)`/g)].map((m) => m[1]));
  for (const name of alertNames(alerts))
    if (!alarms.has(name)) problems.push(`OPERATING.md does not explain the alarm ${name}`);
  for (const name of alarms)
    if (!alertNames(alerts).has(name)) problems.push(`${ALERTS} has no ${name}`);
  return problems;
}

function alertProblems(alerts, known) {
  const problems = alertNames(alerts).size < 10 ? ["there are few alarms"] : [];
  for (const [, expr] of alerts.matchAll(/^ +expr: ([\s\S]*?)\n +(?:for|labels):/gm))
    problems.push(...expressionProblems(ALERTS, expr, known));
  return problems;
}

/* ---- running servers ---- */

/** Starts a program whose operators' address is told in its log; gives the text of its metrics. */
async function metricsOf(program, args) {
  const server = spawn(program, [...args, "--admin-listen", "127.0.0.1:0", "--log-format", "json"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = new Promise((resolve) => server.once("exit", resolve));
  let timer;
  try {
    const admin = new Promise((resolve) =>
      createInterface({ input: server.stderr }).on("line", (line) => {
        const said = line[0] === "{" ? JSON.parse(line) : {};
        if (said.msg === "serving operators") resolve(said.listen);
      }),
    );
    const ready = new Promise((resolve) =>
      createInterface({ input: server.stdout }).on("line", (line) => {
        if (line.startsWith("ready ")) resolve();
      }),
    );
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${program} is not ready`)), WAIT_MS);
    });
    const ended = exited.then((status) => {
      throw new Error(`${program} ended with ${status}`);
    });
    ended.catch(() => {});
    const [address] = await Promise.race([Promise.all([admin, ready]), ended, late]);
    return await (await fetch(`http://${address}/metrics`)).text();
  } finally {
    clearTimeout(timer);
    server.kill("SIGTERM");
    await exited;
  }
}

/** The gateway with all it can have, and a node; the metrics of either, each once. */
async function everything(build) {
  const dir = mkdtempSync(join(tmpdir(), "loquat-metrics-"));
  const at = (name) => join(dir, name);
  try {
    writeFileSync(at("secret"), randomBytes(32).toString("hex"), { mode: 0o600 });
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    const files = ["-keyout", at("key.pem"), "-out", at("cert.pem"), "-subj", "/CN=localhost"];
    execFileSync("openssl", ["req", "-x509", ...curve, ...files], { stdio: "ignore" });
    const listen = ["--listen", "127.0.0.1:0"];
    const kafka = ["--kafka", "127.0.0.1:0"];
    const tls = ["--tls-cert", at("cert.pem"), "--tls-key", at("key.pem")];
    const secret = ["--auth-secret-file", at("secret")];
    return [
      await metricsOf(`${build}/loquat-gateway`, ["--embed", at("a"), ...listen, ...secret, ...tls, ...kafka]),
      await metricsOf(`${build}/loquat-node`, [
        ...["--data", at("b"), ...listen],
        ...["--cluster-secret-file", at("secret")],
        ...[...tls, "--tls-ca", at("cert.pem")],
      ]),
    ];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function promtool(args, input) {
  const run = spawnSync("promtool", args, { input, encoding: "utf8" });
  return run.status === 0 ? [] : [run.stdout + run.stderr];
}

export async function checkMetrics({ build, read, check, refuses }) {
  if (!existsSync(`${build}/loquat-gateway`) || !existsSync(`${build}/loquat-node`)) {
    console.log("skipped: metrics (the programs are not built)");
    return;
  }
  const [gateway, node] = await everything(build);
  const text = gateway + node;
  const known = exposition(text);
  const [operating, alerts, board] = ["docs/OPERATING.md", ALERTS, DASHBOARD].map(read);
  check(
    "a node says nothing of clients",
    [...names(node)].filter((name) => /^loquat_(connections|loops|upstream|session)/.test(name)),
  );
  check(
    `OPERATING.md explains ${names(text).size} metrics, the bounds and the alarms`,
    operatingProblems(operating, alerts, text),
  );
  const documents = (t) => operatingProblems(t, alerts, text);
  await refuses("a metric that is not there", operating, "loquat_wal_bytes_total", "loquat_wal_total", documents);
  await refuses("a bound that is not there", operating, "`feed_marks`", "`feed_mark`", documents);
  await refuses("an alarm that is not there", operating, "`LoquatDiskFull`", "`LoquatFull`", documents);

  check("the alarms ask for what is there", alertProblems(alerts, known));
  await refuses("an alarm on nothing", alerts, "loquat_disk_full", "loquat_disk_fool", (t) =>
    alertProblems(t, known),
  );
  check("the dashboard asks for what is there", dashboardProblems(board, known));
  const changed = (what, from, to) =>
    refuses(what, board, from, to, (t) => dashboardProblems(t, known));
  await changed("a panel on nothing", "loquat_connections_max", "loquat_connections_most");
  await changed("an id twice", '"id": 2,', '"id": 1,');
  await changed("a label that nobody gives", 'kind=\\"write\\"', 'kind=\\"wrote\\"');
  await changed("no JSON", "{", "");

  if (spawnSync("promtool", ["--version"]).error) {
    console.log("skipped: promtool is not here");
    return;
  }
  check("promtool accepts the gateway's metrics", promtool(["check", "metrics"], gateway));
  check("promtool accepts the node's metrics", promtool(["check", "metrics"], node));
  check("promtool accepts the alarms", promtool(["check", "rules", ALERTS]));
}
