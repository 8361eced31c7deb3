/** What the documents say of the code, against the code: options, limits, links. */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { checkLive } from "./live.js";
import { checkMetrics } from "./metrics.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

/* ---- limits: a constant of a header, and how docs/PROTOCOL.md writes it ---- */

const LIMITS = [
  ["store/base/ids.h", "CONV_ID_MAX", "bytes"],
  ["store/base/ids.h", "CID_MAX", "bytes"],
  ["store/base/ids.h", "USER_MAX", "bytes"],
  ["store/base/ids.h", "DEVICE_MAX", "bytes"],
  ["store/base/jwt.h", "JWT_TOKEN_MAX", "bytes"],
  ["store/base/json.h", "JSON_DEPTH_MAX", ""],
  ["store/base/json.h", "JSON_FIELDS_MAX", ""],
  ["store/base/http.h", "HTTP_HEAD_MAX", "bytes"],
  ["store/base/http.h", "HTTP_HEADERS_MAX", ""],
  ["store/timeline.h", "TIMELINE_RECORDS_MAX", ""],
  ["store/timeline.h", "TIMELINE_BYTES_MAX", "MiB"],
  ["store/apply.h", "MARK_EVENT_MEMBERS_MAX", ""],
  ["store/state.h", "INVITES_MAX", ""],
  ["store/state.h", "BLOCKS_MAX", ""],
  ["store/hidden.h", "HIDDEN_MAX", ""],
  ["store/membership.h", "MEMBER_ROLES_MAX", ""],
  ["store/unread.h", "UNREAD_LOOKED_AT_MAX", ""],
  ["gateway/proto.h", "PROTO_TEXT_MAX", "bytes"],
  ["gateway/proto.h", "PROTO_NAME_MAX", "bytes"],
  ["gateway/proto.h", "PROTO_TOPIC_MAX", "bytes"],
  ["gateway/proto.h", "PROTO_MENTIONS_MAX", ""],
  ["gateway/proto.h", "PROTO_MEMBERS_MAX", ""],
  ["gateway/proto.h", "PROTO_LIST_MAX", ""],
  ["gateway/proto.h", "PROTO_PAGE_MAX", ""],
  ["gateway/session.h", "SESSION_FOLLOWS_MAX", ""],
  ["gateway/conn.h", "CONN_READS_MAX", ""],
  ["gateway/conn.h", "CONN_WRITES_MAX", ""],
  ["replication/node.h", "NODE_DISK_RESERVE_DEFAULT", "MiB"],
  ["gateway/settings.h", "GATEWAY_FRAME_MAX_DEFAULT", "bytes"],
  ["gateway/settings.h", "GATEWAY_GROUP_MAX_DEFAULT", ""],
  ["gateway/settings.h", "GATEWAY_WINDOW", ""],
  ["gateway/settings.h", "GATEWAY_AUTH_MS", "s"],
  ["gateway/conn.c", "HEAD_MS", "s"],
  ["gateway/conn.c", "IDLE_MS", "s"],
];
const UNITS = { bytes: 1, MiB: 1 << 20, s: 1000, "": 1 };

/** The value of `NAME = 64 << 10` or `#define NAME (256ull << 20)`. */
function constant(source, name) {
  const found = source.match(new RegExp(`\\b${name}(?: =|) \\(?(\\d+)(?:ull|u)?(?: << (\\d+))?`));
  return found ? Number(found[1]) * 2 ** Number(found[2] ?? 0) : undefined;
}

export function limitProblems(protocol, read) {
  const table = protocol.match(/^## 12\. Limits$[\s\S]*?^## /m)?.[0] ?? "";
  const problems = [];
  for (const [file, name, unit] of LIMITS) {
    const value = constant(read(file), name);
    if (value === undefined) {
      problems.push(`${file} has no ${name} any more`);
      continue;
    }
    const words = (value / UNITS[unit]).toLocaleString("en-US") + (unit ? ` ${unit}` : "");
    if (!new RegExp(`(?<![\\d,])${words}(?![\\d,]*\\d)`).test(table))
      problems.push(`${name} is ${words}; the table of limits does not say so`);
  }
  return problems;
}

/* ---- operations ---- */

/** `source`: that of the gateway, whose table says which operations are HTTP's alone. */
export function operationProblems(asyncText, source) {
  const described = new Set(
    [...asyncText.matchAll(/^ {8}op: \{const: (\w+)\}$/gm)].map((m) => m[1]),
  );
  const served = new Set(
    [...source.matchAll(/^ {4}\{"(\w+)", op_\w+, \w+, ([\w |]+)\},$/gm)]
      .filter((m) => !/PROTO_(HTTP_ONLY|JOBS)/.test(m[2]))
      .map((m) => m[1]),
  );
  return [
    ...[...described]
      .filter((op) => !served.has(op))
      .map((op) => `asyncapi.yaml describes ${op}, which the gateway does not serve`),
    ...[...served]
      .filter((op) => !described.has(op))
      .map((op) => `the gateway serves ${op}, which asyncapi.yaml does not describe`),
  ];
}

/* ---- options: a manual and what its program's --help says ---- */

const ALWAYS = new Set(["help", "usage", "version", "config", "config-show"]);

/** `help`: that of the program, or of all its commands together. */
export function optionProblems(manual, help) {
  const written = new Set([...manual.matchAll(/\*--([a-z][a-z-]+)\*/g)].map((m) => m[1]));
  const known = new Set([...help.matchAll(/^ +(?:-\w, )?--([a-z-]+)/gm)].map((m) => m[1]));
  return [
    ...[...written]
      .filter((o) => !known.has(o) && !ALWAYS.has(o))
      .map((o) => `the manual has --${o}, the program does not`),
    ...[...known]
      .filter((o) => !written.has(o) && !ALWAYS.has(o))
      .map((o) => `the program has --${o}, the manual does not`),
  ];
}

/** Programs with their commands; "" has options of its own. */
const PROGRAMS = {
  "loquat-gateway": [""],
  "loquat-node": [""],
  "loquat-log": [
    ...["token", "open", "send", "read", "tail", "import", "export", "stat", "feed", "consumer"],
  ],
  "loquat-compact": ["status", "plan", "run", "verify", "reindex"],
};

async function checkManuals(build, { read, check, refuses }) {
  for (const [name, commands] of Object.entries(PROGRAMS)) {
    const page = `docs/man/${name}.1.scd`;
    if (!existsSync(root + page) || !existsSync(`${build}/${name}`)) {
      console.log(`skipped: options of ${name} (not built, or it has no manual)`);
      continue;
    }
    const manual = read(page);
    const help = commands
      .map((command) =>
        execFileSync(`${build}/${name}`, [command, "--help"].filter(Boolean), { encoding: "utf8" }),
      )
      .join("\n");
    check(`options of the manual are those of ${name}`, optionProblems(manual, help));
    const option = manual.match(/\*--[a-z-]+(?=\*)/)[0];
    await refuses(`an option that ${name} does not have`, manual, option, `${option}s`, (t) =>
      optionProblems(t, help),
    );
  }
}

/* ---- links ---- */

/** `page`: the file's path in the tree. Links to other places are not
 * followed, and pictures not looked for. */
export function linkProblems(page, text) {
  const problems = [];
  for (const [, target] of text.matchAll(/(?<!!)\[[^\]]*\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target) || target.startsWith("#")) continue;
    const path = new URL(target.split("#")[0], `file://${root}${page}`).pathname;
    if (!existsSync(path)) problems.push(`${page}: ${target} leads nowhere`);
  }
  const anchor = (title) =>
    title
      .toLowerCase()
      .replace(/[^\w\s-]/g, "")
      .trim()
      .replace(/\s/g, "-");
  const anchors = new Set([...text.matchAll(/^#+ (.*)$/gm)].map((m) => anchor(m[1])));
  for (const [, target] of text.matchAll(/\]\(#([^)\s]+)\)/g))
    if (!anchors.has(target)) problems.push(`${page}: there is no heading #${target}`);
  return problems;
}

/** scdoc, the compiler of manuals, reads the text on its standard input. */
function manualProblems(manual) {
  const { status, stderr } = spawnSync("scdoc", { input: manual, encoding: "utf8" });
  return status === 0 ? [] : [stderr.trim()];
}

async function checkPages({ read, check, refuses }) {
  if (spawnSync("scdoc", ["-v"]).error) return console.log("skipped: manuals (no scdoc here)");
  for (const name of readdirSync(`${root}docs/man`).filter((n) => n.endsWith(".scd"))) {
    const manual = read(`docs/man/${name}`);
    check(`scdoc takes ${name}`, manualProblems(manual));
    await refuses(
      `${name}: an underline without an end`,
      manual,
      "# NAME",
      "# NAME\n\n_open",
      manualProblems,
    );
  }
}

export async function checkCode({ read, check, refuses }) {
  const protocol = read("docs/PROTOCOL.md");
  check("limits of PROTOCOL.md are those of the code", limitProblems(protocol, read));
  await refuses("a limit that is another", protocol, "| 16,384 bytes", "| 16,385 bytes", (t) =>
    limitProblems(t, read),
  );

  const asyncText = read("docs/asyncapi.yaml");
  const table = read("gateway/proto.c");
  check(
    "operations of asyncapi.yaml are those of the gateway",
    operationProblems(asyncText, table),
  );
  await refuses(
    "an operation that the gateway does not serve",
    asyncText,
    "op: {const: leave}",
    "op: {const: typing}",
    (t) => operationProblems(t, table),
  );

  const pages = [
    "README.md",
    ...readdirSync(`${root}docs`)
      .filter((n) => n.endsWith(".md"))
      .map((n) => `docs/${n}`),
  ];
  check(
    "links lead somewhere",
    pages.flatMap((page) => linkProblems(page, read(page))),
  );
  await refuses("a link to nothing", protocol, "](openapi.yaml)", "](openapi.yml)", (t) =>
    linkProblems("docs/PROTOCOL.md", t),
  );
  await refuses("a link to no heading", protocol, "](#12-limits)", "](#12-limit)", (t) =>
    linkProblems("docs/PROTOCOL.md", t),
  );

  const build = resolve(root, process.env.BUILD ?? "build");
  await checkPages({ read, check, refuses });
  await checkManuals(build, { read, check, refuses });
  await checkMetrics({ build, read, check, refuses });
  const program = `${build}/loquat-gateway`;
  if (existsSync(program)) await checkLive({ program, read, check });
  else console.log(`skipped: what needs a running server (${program} is not built)`);
}
