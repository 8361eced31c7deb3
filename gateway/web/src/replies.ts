/** The messages of one thread, as far as they were read, and what happens to them. */

import { foldHide, foldMessage, isHole, isMessage, type Client } from "../sdk/index.ts";
import type { ConvId, Hole, Rec, Seq } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

const PAGE = 100;

export class Replies extends Observed {
  readonly root: Seq;
  list: Rec[] = [];
  /** Earlier ones begin below; null: these are all. */
  next: Seq | null = null;
  loaded = false;
  failed = false;
  #client: Client;
  #c: ConvId;
  #off: (() => void)[];

  constructor(client: Client, c: ConvId, root: Seq) {
    super();
    this.#client = client;
    this.#c = c;
    this.root = root;
    this.#off = [
      client.on("convs", () => void this.load()),
      client.on("skipped", (event) => event.c === c && void this.load()),
      client.on("rec", (event) => event.c === c && this.#onRec(event.rec)),
      client.on("hole", (event) => event.c === c && this.#onHole(event.hole)),
      client.on(
        "hide",
        (event) => event.c === c && this.#fold((rec) => foldHide(rec, event.s)),
      ),
    ];
    void this.load();
  }

  close(): void {
    for (const off of this.#off) off();
  }

  /** The newest ones, or those before `from`. */
  async load(from?: Seq): Promise<void> {
    try {
      const { records, next } = await this.#client.range(this.#c, {
        thread: this.root,
        view: "folded",
        order: "desc",
        max: PAGE,
        ...(from !== undefined && { from }),
      });
      const recs = records.flatMap((item) => (isHole(item) ? [] : [item])).reverse();
      const later = from === undefined ? this.list.filter(newerThan(recs)) : this.list;
      this.list = [...recs, ...later];
      this.next = next;
      this.loaded = true;
      this.failed = false;
    } catch {
      this.failed = true;
    }
    this.changed();
  }

  #onRec(rec: Rec): void {
    if (rec.target !== undefined)
      return this.#fold((old) => foldMessage(old, rec, this.#client.user));
    if (rec.thread !== this.root || !isMessage(rec)) return;
    if (this.list.some(({ s }) => s === rec.s)) return;
    this.list = [...this.list, rec];
    this.changed();
  }

  #onHole({ hole: [first, last] }: Hole): void {
    this.#fold((rec) =>
      rec.s >= first && rec.s <= last ? { hole: [rec.s, rec.s], why: "erased" } : rec,
    );
  }

  #fold(change: (rec: Rec) => Rec | Hole): void {
    const list = this.list.map(change).flatMap((item) => (isHole(item) ? [] : [item]));
    if (list.length === this.list.length && list.every((rec, i) => rec === this.list[i]))
      return;
    this.list = list;
    this.changed();
  }
}

const newerThan =
  (recs: Rec[]) =>
  ({ s }: Rec): boolean =>
    s > (recs.at(-1)?.s ?? 0);
