/** What is looked for, as it is typed, and the messages that were found so far. */

import { foldMessage, isHole, LoquatError } from "../sdk/index.ts";
import type { Client, ConvId, Hit, Rec, Seq } from "../sdk/index.ts";
import { Expiry } from "./expiry.ts";
import { Observed } from "./observe.ts";

/** So long after the last key the server is asked. */
const TYPING_MS = 150;
/** With so many new ones it is enough, until somebody wants more. */
const ENOUGH = 10;

export interface FoundHit extends Hit {
  /** The last word is not there: one that begins so is. */
  begun: boolean;
}

export class Finder extends Observed {
  text = "";
  /** Only this conversation; null: all. */
  scope: ConvId | null = null;
  /** Those of the text before stay until there are others. */
  hits: FoundHit[] = [];
  state: "idle" | "busy" | "ready" | "failed" = "idle";
  error: LoquatError | null = null;
  /** Nothing is missing because it is not in the index. */
  complete = true;
  /** The one that somebody was led to last. */
  visited: string | null = null;
  /** How often somebody wanted to search: the field takes the focus. */
  calls = 0;
  #client: Client;
  #off: (() => void)[];
  #expiry: Expiry;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts what was looked for: answers to something else are dropped. */
  #search = 0;
  #fresh = false;
  /** What is still to be asked, one after the other; the first from this page on. */
  #queries: string[] = [];
  #page: string | null = null;

  constructor(client: Client) {
    super();
    this.#client = client;
    this.#expiry = new Expiry(
      () => client.clockSkewMs,
      (now) => this.#expire(now),
    );
    this.#off = [
      client.on("rec", ({ rec }) => rec.target !== undefined && this.#onChange(rec)),
      client.on("hide", ({ c, s }) => this.#keep((hit) => hit.c !== c || hit.s !== s)),
      client.on("left", ({ c }) => this.#keep((hit) => hit.c !== c)),
    ];
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#expiry.close();
    for (const off of this.#off) off();
    this.#search++;
  }

  /** Something is looked for. */
  get active(): boolean {
    return this.text.trim() !== "";
  }

  /** There may be others. */
  get more(): boolean {
    return this.#queries.length > 0;
  }

  change(text: string): void {
    this.text = text;
    this.#begin(TYPING_MS);
  }

  narrow(scope: ConvId | null): void {
    this.scope = scope;
    this.hits = [];
    this.#begin(0);
  }

  clear(): void {
    this.scope = null;
    this.change("");
  }

  /** Somebody wants to search here. */
  call(scope: ConvId | null): void {
    this.calls++;
    if (scope !== this.scope) this.narrow(scope);
    else this.changed();
  }

  visit(hit: Hit): void {
    this.visited = keyOf(hit);
    this.changed();
  }

  /** Without waiting for another key. */
  now(): void {
    if (this.#fresh) this.#begin(0);
  }

  /** The next ones, or those that could not be read. */
  async load(): Promise<void> {
    if (this.state === "busy" || !this.more) return;
    this.state = "busy";
    this.changed();
    await this.#read();
  }

  #begin(wait: number): void {
    this.#search++;
    clearTimeout(this.#timer);
    this.#queries = [];
    this.#page = null;
    this.#fresh = this.active;
    this.state = this.active ? "busy" : "idle";
    if (!this.active) this.hits = [];
    else this.#timer = setTimeout(() => this.#start(), wait);
    this.changed();
  }

  #start(): void {
    this.complete = true;
    const begun = withOpenEnd(this.text);
    this.#queries = [this.text.trim(), ...(begun === null ? [] : [begun])];
    void this.#read();
  }

  async #read(): Promise<void> {
    const search = this.#search;
    try {
      for (let added = 0; added < ENOUGH && this.more;) {
        const found = await this.#client.search(this.#queries[0]!, {
          ...(this.scope !== null && { c: this.scope }),
          ...(this.#page !== null && { page: this.#page }),
        });
        if (search !== this.#search) return;
        this.complete &&= found.indexed.complete;
        added += this.#take(found.hits, this.#queries[0]!.endsWith("*"));
        this.#page = found.next;
        if (found.next === null) this.#queries.shift();
        this.changed();
      }
      this.#take([], false);
      this.state = "ready";
      this.error = null;
    } catch (err) {
      if (search !== this.#search) return;
      if (this.#fresh) this.hits = [];
      this.state = "failed";
      this.error = LoquatError.from(err);
    }
    this.changed();
  }

  /** How many of them are new. */
  #take(hits: Hit[], begun: boolean): number {
    // What was found for the text before makes room for something, or for what there is not.
    if (this.#fresh && (hits.length > 0 || !this.more)) {
      this.hits = [];
      this.#fresh = false;
    }
    const known = new Set(this.#fresh ? [] : this.hits.map(keyOf));
    const fresh = hits.filter((hit) => !known.has(keyOf(hit)));
    if (fresh.length > 0) this.hits = [...this.hits, ...fresh.map((hit) => ({ ...hit, begun }))];
    for (const { record } of fresh) this.#expiry.at(record.expires);
    return fresh.length;
  }

  #keep(stays: (hit: Hit) => boolean): void {
    const left = this.hits.filter(stays);
    if (left.length === this.hits.length) return;
    this.hits = left;
    this.changed();
  }

  #onChange(change: Rec): void {
    const { target, c } = change;
    const old = this.hits.find((hit) => hit.c === c && hit.s === target);
    if (!old) return;
    const record = foldMessage(old.record, change, this.#client.user);
    if (isHole(record)) return this.#keep((hit) => hit !== old);
    // What was found stood in the text before.
    const now = { ...old, record, spans: change.kind === "edit" ? [] : old.spans };
    this.hits = this.hits.map((hit) => (hit === old ? now : hit));
    this.changed();
  }

  #expire(now: number): number {
    const ends = (hit: Hit): number => hit.record.expires ?? Infinity;
    this.#keep((hit) => ends(hit) > now);
    return Math.min(Infinity, ...this.hits.map(ends));
  }
}

export const keyOf = ({ c, s }: { c: ConvId; s: Seq }): string => `${c} ${s}`;

const LETTER = /[\p{L}\p{N}\p{M}]/u;
const LETTERS_MIN = 2;

/** With a last word that may be only begun; null: it has to be what it is. */
function withOpenEnd(text: string): string | null {
  const last = /\S*$/.exec(text)![0];
  const quoted = text.split('"').length % 2 === 0;
  const letters = [...last].filter((char) => LETTER.test(char)).length;
  const ends = LETTER.test([...last].at(-1) ?? "");
  const named = last.startsWith("-") || last.includes(":") || last.includes('"');
  return ends && letters >= LETTERS_MIN && !quoted && !named ? `${text.trim()}*` : null;
}

/** Of a text that is too long: before what was found first, and in all. */
const BEFORE = 40;
const MOST = 240;

/** The text around what was found first; what was found is marked. */
export function excerpt(text: string, spans: Hit["spans"]): { text: string; found: boolean }[] {
  const first = spans[0]?.[0] ?? 0;
  const from = first > BEFORE ? wordFrom(text, first - BEFORE, first) : 0;
  const to = whole(text, Math.min(text.length, from + MOST));
  const parts = [{ text: from > 0 ? "…" : "", found: false }];
  let at = from;
  const until = (end: number, found: boolean): void => {
    if (end > at) parts.push({ text: text.slice(at, end), found });
    at = Math.max(at, end);
  };
  for (const [begin, end] of spans) {
    until(Math.min(begin, to), false);
    until(Math.min(end, to), true);
  }
  until(to, false);
  if (to < text.length) parts.push({ text: "…", found: false });
  return parts;
}

/** Where the next word begins, if one does ahead of `end`. */
function wordFrom(text: string, at: number, end: number): number {
  const space = text.slice(at, end).search(/\s/);
  return space < 0 ? whole(text, at) : at + space + 1;
}

/** Not between the two halves of a character. */
function whole(text: string, at: number): number {
  return /[\uDC00-\uDFFF]/.test(text[at] ?? "") ? at - 1 : at;
}
