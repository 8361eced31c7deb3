/* Ends with `N passed, N failed`. Every check is also shown to fail on a broken copy. */

import { readFileSync } from "node:fs";
import { checkCode } from "./code.js";
import { checkProtocol } from "./protocol.js";
import { parseAsyncApi, parseOpenApi } from "./specs.js";
import { checkExamples, exampleCount } from "./examples.js";

const root = new URL("../../", import.meta.url);
const read = (path) => readFileSync(new URL(path, root), "utf8");
let passed = 0;
let failed = 0;

/** `problems`: what is wrong, in words; none is good. */
function check(name, problems) {
  if (problems.length === 0) {
    passed++;
    console.log(`ok    ${name}`);
  } else {
    failed++;
    console.log(`FAIL  ${name}`);
    for (const problem of problems.slice(0, 20)) console.log(`      ${problem}`);
  }
}

/** The check must find something in a copy where `from` was replaced by `to`. */
async function refuses(name, text, from, to, problemsOf) {
  const broken = text.replace(from, to);
  if (broken === text)
    return check(`broken copy: ${name}`, [`${from} is not in the text any more`]);
  const problems = await problemsOf(broken);
  check(`broken copy: ${name}`, problems.length > 0 ? [] : ["was not refused"]);
}

const asyncText = read("docs/asyncapi.yaml");
const openText = read("docs/openapi.yaml");
const protocol = read("docs/PROTOCOL.md");
const examples = (a, o) => checkExamples({ "asyncapi.yaml": a, "openapi.yaml": o });

check("asyncapi.yaml is AsyncAPI 3", await parseAsyncApi(asyncText));
await refuses(
  "a reference to nothing",
  asyncText,
  '"#/components/messages/send"',
  '"#/components/messages/sent"',
  parseAsyncApi,
);
await refuses("no address", asyncText, "address:", "adress:", parseAsyncApi);
await refuses(
  "a word that is no action",
  asyncText,
  "action: receive",
  "action: take",
  parseAsyncApi,
);

check("openapi.yaml is OpenAPI 3.1", await parseOpenApi(openText));
await refuses(
  "a reference to nothing",
  openText,
  '"#/components/responses/conflict"',
  '"#/components/responses/konflict"',
  parseOpenApi,
);
await refuses(
  "a reference to nothing in the other file",
  openText,
  "schemas/ListOk",
  "schemas/ListOkay",
  parseOpenApi,
);
await refuses(
  "a path parameter that is not declared",
  openText,
  "/v1/conversations/{c}/tail:",
  "/v1/conversations/{d}/tail:",
  parseOpenApi,
);
await refuses("no responses", openText, "responses:", "respondses:", parseOpenApi);

check(
  `${exampleCount({ "asyncapi.yaml": asyncText, "openapi.yaml": openText })} examples fit their schemas`,
  examples(asyncText, openText),
);
await refuses("a number for a text", asyncText, '"device": "phone"}', '"device": 7}', (t) =>
  examples(t, openText),
);
await refuses(
  "a field that no schema names",
  asyncText,
  '"op": "ping"}',
  '"op": "ping", "pong": 1}',
  (t) => examples(t, openText),
);
await refuses("a required field is missing", openText, "cid: m1, ", "", (t) =>
  examples(asyncText, t),
);
await refuses(
  "an error code that does not exist",
  openText,
  "code: conflict",
  "code: konflict",
  (t) => examples(asyncText, t),
);

const whole = (p) => checkProtocol(p, asyncText, openText);
check(
  "PROTOCOL.md names every operation, event, field and path, and its exchanges fit the schemas",
  whole(protocol),
);
await refuses("an operation is not described", protocol, "**`leave`**", "**leave**", whole);
await refuses(
  "a path is not named",
  protocol,
  "`GET /v1/conversations/{c}/tail?from`",
  "tail",
  whole,
);
await refuses(
  "an exchange with a wrong field",
  protocol,
  '"op":"resume","c"',
  '"op":"resume","conv"',
  whole,
);
await refuses(
  "an event with a wrong type",
  protocol,
  '"ev":"lag","c":"',
  '"ev":"lag","c":7,"x":"',
  whole,
);
await refuses("an unknown operation in an exchange", protocol, '"op":"ping"', '"op":"pong"', whole);

await checkCode({ read, check, refuses });

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
