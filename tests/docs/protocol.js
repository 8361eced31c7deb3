/** docs/PROTOCOL.md against the two descriptions: names, and the exchanges that it shows. */

import { Documents } from "./examples.js";

const FILE = "asyncapi.yaml";

/** Names that are code in the text: `like this`, also inside longer code. */
function codeOf(markdown) {
  return (
    markdown
      .replace(/^```[\s\S]*?^```$/gm, "")
      .match(/`[^`\n]+`/g)
      ?.join("\n") ?? ""
  );
}

function namesMissing(markdown, api) {
  const problems = [];
  const code = codeOf(markdown);
  const word = (name) => new RegExp(`(?<![\\w-])${name}(?![\\w-])`).test(code);
  for (const [name, operation] of Object.entries(api.operations)) {
    if (operation.action === "receive" && !markdown.includes(`**\`${name}\`**`))
      problems.push(`the operation ${name} has no paragraph of its own`);
    if (operation.action === "send" && !code.includes(`{"ev":"${name.slice("ev_".length)}"`))
      problems.push(`the event ${name} is not described`);
  }
  for (const [name, schema] of Object.entries(api.components.schemas))
    for (const field of Object.keys(schema.properties ?? {}))
      if (!word(field)) problems.push(`the field ${field} of ${name} is not named`);
  for (const code of api.components.schemas.Error.properties.code.enum)
    if (!word(code)) problems.push(`the error ${code} is not named`);
  return problems;
}

function pathsMissing(markdown, api) {
  const problems = [];
  for (const [path, item] of Object.entries(api.paths))
    for (const method of ["get", "post", "put", "patch", "delete"]) {
      if (!item[method]) continue;
      const found = new RegExp(`\`${method.toUpperCase()} ${path.replace(/[{}/.]/g, "\\$&")}[?\`]`);
      if (!found.test(markdown)) problems.push(`${method.toUpperCase()} ${path} is not named`);
    }
  return problems;
}

/** Blocks of lines that begin with → (request) or ← (answer, event). */
function exchangeProblems(markdown, documents) {
  const problems = [];
  const messages = documents.root(FILE).components.messages;
  const judge = (name, value, line) => {
    if (!messages[name]) return problems.push(`${line}: there is no ${name}`);
    for (const problem of documents.validator(messages[name].payload, FILE)(value))
      problems.push(`${problem}: ${line}`);
  };
  for (const block of markdown.match(/^```[\s\S]*?^```$/gm) ?? []) {
    const ops = new Map();
    for (const line of block.split("\n")) {
      if (!/^[→←] /.test(line)) continue;
      let value;
      try {
        value = JSON.parse(line.slice(2));
      } catch {
        problems.push(`not JSON: ${line}`);
        continue;
      }
      if (line.startsWith("→")) {
        ops.set(value.id, value.op);
        judge(value.op, value, line);
      } else if (value.ev) judge(`ev_${value.ev}`, value, line);
      else judge(`${ops.get(value.id)}_answer`, value, line);
    }
  }
  return problems;
}

export function checkProtocol(markdown, asyncText, openText) {
  const documents = new Documents({ [FILE]: asyncText, "openapi.yaml": openText });
  return [
    ...namesMissing(markdown, documents.root(FILE)),
    ...pathsMissing(markdown, documents.root("openapi.yaml")),
    ...exchangeProblems(markdown, documents),
  ];
}
