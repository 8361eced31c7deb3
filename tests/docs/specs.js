/** The two descriptions against their specifications. Each function gives what is wrong, in words. */

import { fileURLToPath } from "node:url";
import { Parser } from "@asyncapi/parser";
import { createConfig, lintFromString } from "@redocly/openapi-core";

const ERROR = 0; // severities of the AsyncAPI parser: error, warning, information, hint
const WARNING = 1;

export async function parseAsyncApi(text) {
  const { diagnostics } = await new Parser().parse(text);
  return diagnostics
    .filter((d) => d.severity === ERROR || d.severity === WARNING)
    .map((d) => `${d.range.start.line + 1}: ${d.message}`);
}

const config = createConfig({
  extends: ["recommended"],
  rules: {
    "no-server-example.com": "off",
    "operation-2xx-response": "off", // a WebSocket's answer is 101
    "operation-4xx-response": "error",
    "no-invalid-media-type-examples": "error",
    "no-unused-components": "error",
    "no-ambiguous-paths": "error",
  },
});

export async function parseOpenApi(text) {
  const problems = await lintFromString({
    source: text,
    absoluteRef: fileURLToPath(new URL("../../docs/openapi.yaml", import.meta.url)),
    config: await config,
  });
  return problems.map((p) => `${p.location[0]?.pointer ?? ""}: ${p.message} (${p.ruleId})`);
}
