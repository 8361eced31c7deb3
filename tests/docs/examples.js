/** Every example of the two descriptions against its schema, closed: a field that the schema does
 * not name is an error here, though receivers ignore it. */

import Ajv2020 from "ajv/dist/2020.js";
import { parse } from "yaml";

const ajv = new Ajv2020({ strict: false, allErrors: true });

export class Documents {
  /** `texts`: file name → YAML. */
  constructor(texts) {
    this.docs = new Map(Object.entries(texts).map(([name, text]) => [name, parse(text)]));
  }

  root(file) {
    return this.docs.get(file);
  }

  /** Follows references to a value: [value, the file it is in]. */
  resolve(value, file) {
    while (value !== null && typeof value === "object" && typeof value.$ref === "string") {
      const [path, pointer] = value.$ref.split("#");
      file = path || file;
      let at = this.docs.get(file);
      for (const part of pointer.split("/").slice(1))
        at = at?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")];
      if (at === undefined) throw new Error(`${value.$ref} leads nowhere`);
      value = at;
    }
    return [value, file];
  }

  /** The schema with its references put in and its objects closed. `open`: part of a whole that
   * will be closed. */
  close(schema, file, open = false) {
    [schema, file] = this.resolve(schema, file);
    if (schema === null || typeof schema !== "object") return schema;
    const list = (of, asPart) => of.map((part) => this.close(part, file, asPart));
    const out = { ...schema };
    const isObject = "properties" in schema || "allOf" in schema;
    for (const name of ["allOf", "oneOf", "anyOf"])
      if (schema[name]) out[name] = list(schema[name], name === "allOf" || isObject);
    if (schema.properties)
      out.properties = Object.fromEntries(
        Object.entries(schema.properties).map(([name, part]) => [name, this.close(part, file)]),
      );
    if (schema.items) out.items = this.close(schema.items, file);
    if (typeof schema.additionalProperties === "object")
      out.additionalProperties = this.close(schema.additionalProperties, file);
    if (isObject && !open && !("additionalProperties" in schema)) out.unevaluatedProperties = false;
    return out;
  }

  validator(schema, file) {
    const valid = ajv.compile(this.close(schema, file));
    return (value) =>
      valid(value)
        ? []
        : valid.errors.map(
            (e) => `${e.instancePath || "it"} ${e.message} ${JSON.stringify(e.params)}`,
          );
  }
}

/** All of [where, schema, value, file], wherever examples stand in AsyncAPI messages and OpenAPI media types. */
function* examplesOf(documents, node, file, where) {
  if (node === null || typeof node !== "object") return;
  if (Array.isArray(node.examples) && node.payload)
    for (const [i, example] of node.examples.entries())
      yield [`${where}/examples/${i}`, node.payload, example.payload, file];
  if (node.examples && !Array.isArray(node.examples) && node.schema)
    for (const [name, example] of Object.entries(node.examples))
      yield [
        `${where}/examples/${name}`,
        node.schema,
        documents.resolve(example, file)[0].value,
        file,
      ];
  for (const [name, child] of Object.entries(node))
    if (name !== "examples") yield* examplesOf(documents, child, file, `${where}/${name}`);
}

function* all(texts) {
  const documents = new Documents(texts);
  for (const file of Object.keys(texts))
    for (const example of examplesOf(documents, documents.root(file), file, file))
      yield [documents, ...example];
}

export function exampleCount(texts) {
  return [...all(texts)].length;
}

export function checkExamples(texts) {
  const problems = [];
  for (const [documents, where, schema, value, file] of all(texts))
    for (const problem of documents.validator(schema, file)(value))
      problems.push(`${where}: ${problem}`);
  return problems;
}
