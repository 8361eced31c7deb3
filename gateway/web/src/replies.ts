/** One thread: its root and its messages, as far as they were read, and what happens to them. */

import { foldHide, foldMessage, isHole, isMessage, type Client } from "../sdk/index.ts";
import type { ConvId, Hole, Rec, Seq } from "../sdk/index.ts";
import { Expiry } from "./expiry.ts";
import { Observed } from "./observe.ts";
import { foreseen } from "./timeline.ts";

const PAGE = 100;

export class Replies extends Observed {
  readonly root: Seq;
  /** The message that the thread hangs on; null: it is gone; undefined: not here yet. */
  first: Rec | null | undefined;
  list: Rec[] = [];
  /** Earlier ones begin below; null: these are all. */
  next: Seq | null = null;
  failed = false;
  #client: Client;
  #c: ConvId;
  #off: (() => void)[];
  #expiry: Expiry;
  /** Of each message the last record that is in it: the head of its reading, or a later one. */
  #asOf = new Map<Seq, Seq>();
  #loads = 0;
  /** What came while pages were read: they may not have it. */
  #early: (() => void)[] = [];

  constructor(client: Client, c: ConvId, root: Seq) {
    super();
    this.#client = client;
    this.#c = c;
    this.root = root;
    this.#expiry = new Expiry(
      () => client.clockSkewMs,
      (now) => this.#expire(now),
    );
    this.#off = [
      client.on("convs", () => void this.load()),
      client.on("skipped", (event) => event.c === c && void this.load()),
      client.on("rec", ({ rec }) => rec.c === c && this.#live(() => this.#onRec(rec))),
      client.on("hole", ({ c: of, hole }) => of === c && this.#live(() => this.#onHole(hole))),
      client.on("hide", ({ c: of, s }) => of === c && this.#live(() => this.#onHide(s))),
      client.on("sent", ({ entry, result }) => {
        if (entry.c !== c || entry.op !== "send" || entry.fields["thread"] !== root) return;
        if (result.s) this.#put(foreseen(entry, result, client.user!), result.s - 1);
      }),
    ];
    void this.load();
  }

  close(): void {
    for (const off of this.#off) off();
    this.#expiry.close();
  }

  /** As it is now, where it is at hand. */
  message(s: Seq): Rec | undefined {
    return s === this.root ? (this.first ?? undefined) : this.list.find((rec) => rec.s === s);
  }

  /** The root and the newest messages, or those before `from`. */
  async load(from?: Seq): Promise<void> {
    this.#loads++;
    try {
      if (from === undefined) await this.#readRoot();
      await this.#readPage(from);
      this.failed = false;
    } catch {
      this.failed = true;
    }
    if (--this.#loads === 0) for (const again of this.#early.splice(0)) again();
    this.changed();
  }

  async #readRoot(): Promise<void> {
    const { root } = this;
    const query = { from: root, to: root + 1, max: 1, view: "folded" } as const;
    const { records, head } = await this.#client.range(this.#c, query);
    const item = records[0];
    this.first = item && !isHole(item) ? item : null;
    this.#asOf.set(root, head);
    this.#expiry.at(this.first?.expires);
  }

  async #readPage(from: Seq | undefined): Promise<void> {
    const { records, next, head } = await this.#client.range(this.#c, {
      thread: this.root,
      view: "folded",
      order: "desc",
      max: PAGE,
      ...(from !== undefined && { from }),
    });
    const recs = records.flatMap((item) => (isHole(item) ? [] : [item])).reverse();
    const later = from === undefined ? this.list.filter(({ s }) => s > head) : this.list;
    for (const { s, expires } of recs) {
      this.#asOf.set(s, head);
      this.#expiry.at(expires);
    }
    this.list = [...recs, ...later];
    this.next = next;
  }

  #live(apply: () => void): void {
    apply();
    if (this.#loads > 0) this.#early.push(apply);
  }

  #onRec(rec: Rec): void {
    const fold = (old: Rec): Rec | Hole => foldMessage(old, rec, this.#client.user);
    if (rec.target !== undefined) this.#change(rec.target, rec.s, fold);
    if (rec.thread !== this.root) return;
    this.#change(this.root, rec.s, fold); // one more hangs on it, or one less
    if (isMessage(rec)) this.#put(rec, rec.s);
  }

  #onHole({ hole: [first, last] }: Hole): void {
    for (const { s } of [...this.list, ...(this.first ? [this.first] : [])])
      if (s >= first && s <= last) this.#change(s, Infinity, gone);
  }

  #onHide(s: Seq): void {
    this.#change(s, Infinity, (rec) => foldHide(rec, s));
  }

  /** A message that was not here; once, however often it is told. */
  #put(rec: Rec, asOf: Seq): void {
    if (asOf <= (this.#asOf.get(rec.s) ?? 0)) return;
    this.#asOf.set(rec.s, asOf);
    this.list = [...this.list.filter(({ s }) => s !== rec.s), rec].sort((a, b) => a.s - b.s);
    this.#expiry.at(rec.expires);
    this.changed();
  }

  /** What `fold` makes of the message at `s`, unless it knows of the record `by`. */
  #change(s: Seq, by: Seq, fold: (rec: Rec) => Rec | Hole): void {
    const old = this.message(s);
    if (!old || by <= (this.#asOf.get(s) ?? 0)) return;
    this.#asOf.set(s, by);
    const now = fold(old);
    const left = isHole(now) ? null : now;
    if (s === this.root) this.first = left;
    else this.list = this.list.flatMap((rec) => (rec.s !== s ? rec : (left ?? [])));
    this.changed();
  }

  /** What has had its time goes. */
  #expire(now: number): number {
    let next = Infinity;
    for (const { s, expires = Infinity } of [...this.list, ...(this.first ? [this.first] : [])])
      if (expires <= now) this.#change(s, Infinity, gone);
      else next = Math.min(next, expires);
    return next;
  }
}

const gone = ({ c, s }: Rec): Hole => ({ c, hole: [s, s], why: "expired" });
