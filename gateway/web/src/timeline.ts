/**
 * One conversation as it is shown: blocks of BLOCK sequences, read by `range` when they come near
 * the window and dropped when they are far from it. What happens live is applied to the blocks at
 * hand.
 */

import {
  foldMessage,
  isHole,
  isMention,
  isMessage,
  type Client,
  type Conv,
  type Entry,
  type Hole,
  type Rec,
  type SendResult,
  type Seq,
} from "../sdk/index.ts";
import { Expiry } from "./expiry.ts";
import { Observed } from "./observe.ts";

export type Item = Rec | Hole;

export interface Block {
  index: number;
  state: "loading" | "ready" | "failed";
  items: Item[];
  /** The heads when its pages were read, by where they begin: later records change them. */
  pages: [from: Seq, head: Seq][];
  version: number;
  /** What came while it was being read. */
  early: [Item, Seq][];
}

/** Sequences per block. */
export const BLOCK = 32;
/** Blocks that are kept, most; those farthest from the window go first. */
export const BLOCKS_MAX = 48;
const LOADS_MAX = 3;
const QUOTES_MAX = 300;
const QUOTE_LOADS_MAX = 4;

export const blockOf = (s: Seq): number => Math.floor((s - 1) / BLOCK);
export const firstOf = (index: number): Seq => index * BLOCK + 1;
export const seqOf = (item: Item): Seq => (isHole(item) ? item.hole[0] : item.s);

export class Timeline extends Observed {
  readonly c: string;
  head: Seq;
  floor: Seq;
  #client: Client;
  #blocks = new Map<number, Block>();
  #wanted: number[] = [];
  #loads = 0;
  #quotes = new Map<Seq, Item | null>();
  #quoteQueue: Seq[] = [];
  #quoteLoads = 0;
  #expiry: Expiry;

  constructor(client: Client, conv: Conv) {
    super();
    this.#client = client;
    this.#expiry = new Expiry(
      () => client.clockSkewMs,
      (now) => this.#expire(now),
    );
    this.c = conv.c;
    this.head = conv.head;
    this.floor = Math.max(1, conv.floor);
  }

  /** Nobody looks at it any more. */
  close(): void {
    this.#expiry.close();
  }

  block(index: number): Block | undefined {
    return this.#blocks.get(index);
  }

  /** These blocks are needed, the most urgent first; others may go, and need not be read. */
  want(indices: number[]): void {
    this.#wanted = indices;
    if (this.#blocks.size > BLOCKS_MAX) this.#drop(indices);
    this.#load();
  }

  /** A record that was just given out; each once, in order. */
  apply(item: Item): void {
    const last = isHole(item) ? item.hole[1] : item.s;
    this.head = Math.max(this.head, last);
    this.#place(item, true);
    this.changed();
  }

  /** What an acknowledgement says ahead of the record itself. */
  foresee(rec: Rec): void {
    this.head = Math.max(this.head, rec.s);
    this.#place(rec, false);
    this.changed();
  }

  /** This user deleted it for the own devices. */
  hide(s: Seq): void {
    const block = this.#blocks.get(blockOf(s));
    const hole: Hole = { hole: [s, s], why: "hidden" };
    this.#quotes.delete(s);
    if (block?.state === "loading") block.early.push([hole, s]);
    if (block?.state !== "ready") return;
    insert(block.items, hole);
    block.version++;
    this.changed();
  }

  /** Much happened that is not given out: what is shown is read again. */
  reset(head: Seq): void {
    this.head = Math.max(this.head, head);
    this.#blocks.clear();
    this.#quotes.clear();
    this.#load();
    this.changed();
  }

  /** Blocks that could not be read are tried again. */
  retry(): void {
    for (const block of this.#blocks.values())
      if (block.state === "failed") this.#blocks.delete(block.index);
    this.#load();
    this.changed();
  }

  find(s: Seq): Item | undefined {
    const block = this.#blocks.get(blockOf(s));
    return block?.items.find((item) =>
      isHole(item) ? s >= item.hole[0] && s <= item.hole[1] : item.s === s,
    );
  }

  /** As it is now, where it is at hand. */
  message(s: Seq): Rec | undefined {
    const item = this.find(s);
    return item && !isHole(item) ? item : undefined;
  }

  /** Messages at hand that name a user, from one sequence to another. */
  mentions(user: string, from: Seq, to: Seq): number {
    let sum = 0;
    for (const { items } of this.#blocks.values())
      for (const item of items)
        if (!isHole(item) && item.s >= from && item.s <= to)
          if (item.from !== user && isMention(item, user)) sum++;
    return sum;
  }

  /** The message that is replied to: undefined while it is being read, null when there is none. */
  quote(s: Seq): Item | null | undefined {
    const here = this.find(s);
    if (here) return here;
    const known = this.#quotes.get(s);
    if (known !== undefined) return known && this.#expired(known) ? null : known;
    if (!this.#quoteQueue.includes(s)) {
      this.#quoteQueue.push(s);
      if (this.#quoteQueue.length > QUOTES_MAX) this.#quoteQueue.shift();
      this.#loadQuotes();
    }
    return undefined;
  }

  /** The newest message that passes; of the blocks at hand only. */
  lastWhere(test: (rec: Rec) => boolean): Rec | null {
    for (let index = blockOf(this.head); index >= blockOf(this.floor); index--) {
      const block = this.#blocks.get(index);
      if (!block) return null;
      for (let i = block.items.length - 1; i >= 0; i--) {
        const item = block.items[i]!;
        if (!isHole(item) && test(item)) return item;
      }
    }
    return null;
  }

  #drop(keep: number[]): void {
    const middle = keep[0] ?? 0;
    const far = [...this.#blocks.keys()].filter((index) => !keep.includes(index));
    far.sort((a, b) => Math.abs(b - middle) - Math.abs(a - middle));
    for (const index of far.slice(0, this.#blocks.size - BLOCKS_MAX))
      this.#blocks.delete(index);
  }

  #load(): void {
    for (const index of this.#wanted) {
      if (this.#loads >= LOADS_MAX) return;
      if (!this.#blocks.has(index) && firstOf(index) <= this.head) void this.#read(index);
    }
  }

  async #read(index: number): Promise<void> {
    const block: Block = {
      index,
      state: "loading",
      items: [],
      pages: [],
      version: 0,
      early: [],
    };
    this.#blocks.set(index, block);
    this.#loads++;
    try {
      await this.#fetch(block);
      block.state = "ready";
    } catch {
      block.state = "failed";
    }
    this.#loads--;
    if (this.#blocks.get(index) === block) {
      block.version++;
      for (const [item, at] of block.early.splice(0)) this.#put(item, at, !isHole(item));
      for (const item of block.items) if (!isHole(item)) this.#expiry.at(item.expires);
    }
    this.#load();
    this.changed();
  }

  async #fetch(block: Block): Promise<void> {
    const to = firstOf(block.index + 1);
    for (
      let from: Seq | null = Math.max(firstOf(block.index), this.floor);
      from !== null && from < to;
    ) {
      const query = { from, to, max: BLOCK, order: "asc" } as const;
      const page = await this.#client.range(this.c, { ...query, view: "folded" });
      block.pages.push([from, page.head]);
      for (const item of page.records) {
        if (!isHole(item) || item.why === "erased" || item.why === "expired")
          block.items.push(item);
        else if (item.hole[0] <= this.floor)
          this.floor = Math.max(this.floor, item.hole[1] + 1); // nothing of it is left
      }
      // Folded pages are silent about what is no message: who came and went is in the log alone.
      const end = Math.min(page.next ?? to, page.head + 1);
      if (page.records.reduce((sum, item) => sum + lengthOf(item), 0) < end - from) {
        const log = await this.#client.range(this.c, { ...query, to: end, view: "log" });
        for (const item of log.records)
          if (!isHole(item) && isEvent(item)) insert(block.items, item);
      }
      from = page.next;
    }
  }

  #place(item: Item, ordered: boolean): void {
    const s = seqOf(item);
    if (!isHole(item) && item.thread !== undefined && ordered)
      this.#put(item, item.thread, ordered); // one more hangs on its root
    if (isHole(item) || item.target === undefined) return this.#put(item, s, ordered);
    if (item.kind === "edit" || item.kind === "delete") this.#quotes.delete(item.target);
    this.#put(item, item.target, ordered);
    if (isEvent(item)) this.#put(item, s, ordered); // it has a line of its own, too
  }

  /** What happened at `s` shows at `at`. */
  #put(item: Item, at: Seq, ordered: boolean): void {
    const s = seqOf(item);
    const block = this.#blocks.get(blockOf(at));
    if (block?.state === "loading") block.early.push([item, at]);
    if (block?.state !== "ready" || (ordered && s <= asOf(block, at))) return;
    if (at === s) insert(block.items, item);
    else this.#change(block.items, item as Rec, at);
    block.version++;
    if (!isHole(item)) this.#expiry.at(item.expires);
  }

  /** What a record makes of the message at `s`: its target, or the root of its thread. */
  #change(items: Item[], rec: Rec, s: Seq): void {
    const at = items.findIndex((item) => !isHole(item) && item.s === s);
    const old = items[at];
    if (old && !isHole(old)) items[at] = foldMessage(old, rec, this.#client.user);
  }

  #expired(item: Item, now = Date.now() + this.#client.clockSkewMs): boolean {
    return !isHole(item) && (item.expires ?? Infinity) <= now;
  }

  /** What has had its time becomes a hole. */
  #expire(now: number): number {
    let next = Infinity;
    for (const block of this.#blocks.values()) {
      const gone = block.items.filter((item) => this.#expired(item, now));
      for (const item of gone)
        insert(block.items, { hole: [seqOf(item), seqOf(item)], why: "expired" });
      if (gone.length > 0) block.version++;
      for (const item of block.items)
        if (!isHole(item)) next = Math.min(next, item.expires ?? Infinity);
    }
    this.changed();
    return next;
  }

  #loadQuotes(): void {
    while (this.#quoteLoads < QUOTE_LOADS_MAX && this.#quoteQueue.length > 0) {
      const s = this.#quoteQueue.pop()!; // what is seen now, first
      this.#quoteLoads++;
      this.#client
        .range(this.c, { from: s, to: s + 1, max: 1, view: "folded" })
        .then((page) => this.#quotes.set(s, page.records[0] ?? null))
        .catch(() => this.#quotes.set(s, null))
        .finally(() => {
          this.#quoteLoads--;
          const oldest = this.#quotes.keys().next();
          if (this.#quotes.size > QUOTES_MAX && !oldest.done) this.#quotes.delete(oldest.value);
          const block = [...this.#blocks.values()].filter((b) =>
            b.items.some((i) => !isHole(i) && i.reply === s),
          );
          for (const each of block) each.version++;
          this.#loadQuotes();
          this.changed();
        });
    }
  }
}

const lengthOf = (item: Item): number => (isHole(item) ? item.hole[1] - item.hole[0] + 1 : 1);
const EVENTS = ["member", "meta", "pin", "invite", "uninvite"];
const isEvent = (rec: Rec): boolean => EVENTS.includes(rec.kind);

/** The record that an answered write will come back as. */
export function foreseen(entry: Entry, result: SendResult, me: string): Rec {
  const { s: target, ...fields } = entry.fields as { s?: Seq; kind?: string };
  return {
    ...fields,
    c: entry.c,
    s: result.s,
    mid: result.mid,
    ts: result.ts,
    n: result.n,
    from: me,
    kind: entry.op === "send" ? (fields.kind ?? "text") : entry.op,
    cid: entry.cid,
    ...(target !== undefined && { target }),
  };
}

/** The head of the page that brought `s`. */
const asOf = (block: Block, s: Seq): Seq =>
  block.pages.findLast(([from]) => from <= s)?.[1] ?? block.pages[0]?.[1] ?? 0;

/** In its place; over what is there with the same sequence. */
function insert(items: Item[], item: Item): void {
  if (!isHole(item) && !isMessage(item) && !isEvent(item)) return;
  const s = seqOf(item);
  let at = items.length;
  while (at > 0 && seqOf(items[at - 1]!) >= s) at--;
  const same = at < items.length && seqOf(items[at]!) === s;
  items.splice(at, same ? 1 : 0, item);
}
