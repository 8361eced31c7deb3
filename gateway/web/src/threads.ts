/** The threads of one conversation: what is unread in each, kept up by what happens. */

import { foldThread, isMessage, type Client, type Conv, type Rec } from "../sdk/index.ts";
import type { Seq, Thread } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

export class Threads extends Observed {
  readonly c: string;
  list: Thread[] = [];
  /** `page` of the rest; null: this is all. */
  next: number | null = null;
  #client: Client;
  #off: (() => void)[];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(client: Client, conv: Conv) {
    super();
    this.#client = client;
    this.c = conv.c;
    this.#off = [
      client.on("convs", () => void this.load()),
      client.on("skipped", ({ c }) => c === this.c && void this.load()),
      client.on("rec", ({ c, rec }) => c === this.c && this.#onRec(rec)),
      client.on("thread", ({ c, thread, read }) => c === this.c && this.#onRead(thread, read)),
    ];
    void this.load();
  }

  close(): void {
    for (const off of this.#off) off();
    clearTimeout(this.#timer);
  }

  /** Messages of others that were not read, in all threads at hand. */
  get unread(): number {
    return this.list.reduce((sum, thread) => sum + thread.unread, 0);
  }

  /** All anew, or what follows. */
  async load(page?: number): Promise<void> {
    try {
      const reply = await this.#client.threads(this.c, page);
      this.list = page === undefined ? reply.threads : [...this.list, ...reply.threads];
      this.next = reply.next;
      this.changed();
    } catch {
      // The next connection asks again.
    }
  }

  /** It was looked at so far. */
  read(s: Seq, read: Seq): void {
    this.#onRead(s, read);
    this.#client.markThread(this.c, s, read).catch(() => undefined);
  }

  #onRec(rec: Rec): void {
    if (rec.kind === "delete" && rec.thread !== undefined) return this.#later();
    if (rec.thread === undefined || !isMessage(rec)) return;
    const old = this.list.find(({ s }) => s === rec.thread);
    if (!old) return this.#later();
    const others = this.list.filter((thread) => thread !== old);
    this.list = [foldThread(old, rec, this.#client.user), ...others]; // the newest first
    this.changed();
  }

  /** How much of it is unread now, the server knows, unless all is read. */
  #onRead(s: Seq, read: Seq): void {
    const old = this.list.find((thread) => thread.s === s);
    if (!old || read <= old.read) return;
    const unread = read >= old.last ? 0 : old.unread;
    this.list = this.list.map((each) => (each === old ? { ...old, read, unread } : each));
    if (unread > 0) this.#later();
    this.changed();
  }

  #later(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.load(), 300);
  }
}
