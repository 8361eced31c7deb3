/** What the page knows: the connection, the conversation list, timelines, marks of the others. */

import {
  Client,
  foldConv,
  foldPrefs,
  foldReaction,
  isHole,
  isMention,
  isMessage,
  LoquatError,
  tokenClaims,
  webStorage,
} from "../sdk/index.ts";
import type { Conv, ConvId, Entry, Prefs, Rec, SendResult, Seq, State } from "../sdk/index.ts";
import { Blocks } from "./blocks.ts";
import { Drafts } from "./drafts.ts";
import { Expiry } from "./expiry.ts";
import { Finder } from "./finder.ts";
import { Idle } from "./idle.ts";
import { isMuted, sorted, urgent, when, withPrefs } from "./listing.ts";
import { mentionsOf, People } from "./mentions.ts";
import { Observed } from "./observe.ts";
import { Presences } from "./presences.ts";
import { hasMarks, Receipts } from "./receipts.ts";
import { foreseen, Timeline } from "./timeline.ts";
import { Typists } from "./typists.ts";
import { eventOf, reactionOf, textOf, titleOf } from "./words.ts";

/** A reaction whose record `s` is still to come. */
interface Answered {
  entry: Entry;
  s: Seq;
}

export interface Seen {
  s: Seq;
  n: number;
}

export interface Notice {
  text: string;
  bad: boolean;
}

const TIMELINES_MAX = 4;
/** Further behind than this, a conversation is read anew rather than caught up with. */
const LAG_MAX = 1000;
/** With the device offline a connection that still lives (to itself) answers within this. */
const OFFLINE_MS = 1000;
const NOTICE_MS = 6000;
/** So long after the first of several changes the server is asked for its counts. */
const COUNT_MS = 500;
/** What could not be done, by the operation. */
const DEEDS: Record<Entry["op"], string> = {
  send: "send the message",
  edit: "edit the message",
  delete: "delete the message",
  react: "react to the message",
  pin: "pin or unpin the message",
};
/** The server counts no further. */
const MENTIONS_MAX = 1000;
/** Of so many conversations it is told that what was written has come. */
const DELIVERED_MAX = 500;
const DEVICE_KEY = "loquat.device";

export class Store extends Observed {
  readonly client: Client;
  readonly me: string;
  state: State = { name: "idle" };
  /** The list came at least once. */
  loaded = false;
  convs = new Map<ConvId, Conv>();
  queue: Entry[] = [];
  readonly typists = new Typists();
  readonly drafts: Drafts;
  /** What is written in threads, by the composer. */
  readonly begun = new Map<string, string>();
  readonly blocks: Blocks;
  readonly finder: Finder;
  readonly people: People;
  readonly presences: Presences;
  readonly receipts: Receipts;
  /** How many have read the newest message of a large group. */
  readonly seen = new Map<ConvId, Seen>();
  current: ConvId | null = null;
  notice: Notice | null = null;
  /** For screen readers: what just happened. */
  spoken = "";
  #sorted: Conv[] | null = null;
  #timelines = new Map<ConvId, Timeline>();
  #landed = new Set<string>();
  #answered: Answered[] = [];
  /** When conversations came that were not there at the start: they may hold no message yet. */
  #came = new Map<ConvId, number>();
  #noticeTimer: ReturnType<typeof setTimeout> | undefined;
  #countTimer: ReturnType<typeof setTimeout> | undefined;
  /** Of the newest messages, which the list shows. */
  #expiry = new Expiry(
    () => this.client.clockSkewMs,
    (now) => this.#expire(now),
  );
  #idle = new Idle((away) => this.client.setAway(away));
  #mutes = new Expiry(
    () => this.client.clockSkewMs,
    (now) => this.#unmute(now),
  );

  constructor(token: string, freshToken: () => string) {
    super();
    this.me = tokenClaims(token)?.sub ?? "";
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.client = new Client({
      url: `${scheme}//${location.host}/v1/ws`,
      token: freshToken,
      device: device(),
      storage: webStorage(localStorage, this.me),
      lagMax: LAG_MAX,
      pingTimeoutMs: 4000,
    });
    this.queue = this.client.queue();
    this.drafts = new Drafts(this.me, {
      known: (c) => this.convs.get(c)?.draft ?? "",
      live: () => this.client.state.name === "live",
      save: (c, draft) => this.client.prefs(c, { draft }),
    });
    this.blocks = new Blocks(this.client);
    this.finder = new Finder(this.client);
    this.people = new People(this.client);
    this.presences = new Presences(this.client);
    this.receipts = new Receipts(this.client, (c) => {
      this.#timelines.get(c)?.changed();
      this.changed();
    });
    this.#listen();
  }

  start(): void {
    this.client.start();
    this.#idle.start();
    addEventListener("online", this.#wake);
    addEventListener("offline", this.#lose);
    addEventListener("pagehide", this.#leave);
    document.addEventListener("visibilitychange", this.#wake);
  }

  stop(): void {
    this.drafts.close();
    this.client.stop();
    this.#idle.stop();
    this.#expiry.close();
    this.#mutes.close();
    this.finder.close();
    for (const timeline of this.#timelines.values()) timeline.close();
    removeEventListener("online", this.#wake);
    removeEventListener("offline", this.#lose);
    removeEventListener("pagehide", this.#leave);
    document.removeEventListener("visibilitychange", this.#wake);
  }

  /** All of them, hidden ones too: pinned ones first, then the newest. */
  list(): Conv[] {
    const at = (conv: Conv): number =>
      Math.max(when(conv), conv.created ?? 0, this.#came.get(conv.c) ?? 0);
    return (this.#sorted ??= sorted(this.convs.values(), at));
  }

  /** What the title says of messages that somebody may want to know of. */
  get unread(): number {
    let sum = 0;
    for (const conv of this.convs.values()) sum += urgent(conv, this.now);
    return sum;
  }

  /** The server's clock. */
  get now(): number {
    return Date.now() + this.client.clockSkewMs;
  }

  /** Pins, mutes or hides it, on all devices; the event that says so changes the list. */
  set(c: ConvId, prefs: Prefs): void {
    this.client.prefs(c, prefs).catch((err: unknown) => {
      this.tell(`Could not change the list: ${LoquatError.from(err).message}`, true);
    });
  }

  timeline(conv: Conv): Timeline {
    const timeline = this.#timelines.get(conv.c) ?? new Timeline(this.client, conv);
    this.#timelines.delete(conv.c);
    this.#timelines.set(conv.c, timeline); // the newest use last
    const oldest = this.#timelines.keys().next();
    if (this.#timelines.size > TIMELINES_MAX && !oldest.done) this.#close(oldest.value);
    return timeline;
  }

  #close(c: ConvId): void {
    this.#timelines.get(c)?.close();
    this.#timelines.delete(c);
  }

  /** Sends that no record stands for yet; with `thread` those of this thread alone. */
  pending(c: ConvId, thread?: Seq): Entry[] {
    const sends = this.queue.filter((e) => e.c === c && e.op === "send");
    return sends.filter(
      ({ cid, fields }) =>
        !this.#landed.has(cid) && (thread === undefined || fields["thread"] === thread),
    );
  }

  /** A queued edit or delete of this message. */
  changeOf(c: ConvId, s: Seq): Entry | undefined {
    const changes = (e: Entry): boolean => e.op === "edit" || e.op === "delete";
    return this.queue.findLast((e) => e.c === c && changes(e) && e.fields["s"] === s);
  }

  /** The message with the reactions that are on their way to it. */
  expected(rec: Rec): Rec {
    let out = rec;
    for (const { c, op, fields, error } of [
      ...this.#answered.map(({ entry }) => entry),
      ...this.queue,
    ])
      if (op === "react" && c === rec.c && fields["s"] === rec.s && !error)
        out = foldReaction(out, String(fields["emoji"]), fields["on"] === true, true);
    return out;
  }

  block(user: string, on: boolean): void {
    const what = on ? "block" : "unblock";
    this.client.block(user, on).then(
      () => this.tell(on ? `${user} is blocked.` : `${user} is not blocked any more.`),
      (err: unknown) =>
        this.tell(`Could not ${what} ${user}: ${LoquatError.from(err).message}`, true),
    );
  }

  /** With those whom the text names. */
  send(conv: Conv, text: string, more: { reply?: Seq; thread?: Seq } = {}): void {
    const mentions = mentionsOf(text, conv, this.people.of(conv.c));
    const named = mentions && { mentions };
    this.client.send(conv.c, { kind: "text", body: { text }, ...more, ...named });
  }

  /** On where it is off, off where it is on. */
  toggle(rec: Rec, emoji: string): void {
    const on = !this.expected(rec).reactions?.[emoji]?.me;
    this.client.react(rec.c, rec.s, emoji, on);
  }

  open(c: ConvId | null): void {
    this.current = c;
    const conv = c === null ? undefined : this.convs.get(c);
    if (conv) this.#loadMarks(conv);
    this.changed();
  }

  #loadMarks(conv: Conv): void {
    if (hasMarks(conv)) void this.receipts.load(conv);
    else void this.#loadSeen(conv);
  }

  /** What is told from here on, as it is now. */
  async #loadSeen({ c, last }: Conv): Promise<void> {
    if (!last || isHole(last) || last.from !== this.me) return;
    const { n, next } = await this.client.seen(c, last.s).catch(() => ({ n: 0, next: null }));
    if (next !== null || (this.seen.get(c)?.s ?? 0) >= last.s) return; // not all, or old
    this.seen.set(c, { s: last.s, n });
    this.#timelines.get(c)?.changed();
  }

  /** For screen readers. */
  say(text: string): void {
    this.spoken = text;
    this.changed();
  }

  /** Seen on this screen up to `s`. */
  read(c: ConvId, s: Seq, n: number): void {
    const conv = this.convs.get(c);
    if (!conv || s <= conv.read) return;
    const seen = this.#timelines.get(c)?.mentions(this.me, conv.read + 1, s) ?? 0;
    conv.read = s;
    conv.unread = Math.max(0, Math.min(conv.unread, conv.n - n));
    conv.mentions = Math.min(conv.unread, Math.max(0, (conv.mentions ?? 0) - seen));
    this.client.mark(c, { read: s });
    this.changed();
  }

  tell(text: string, bad = false): void {
    this.notice = { text, bad };
    clearTimeout(this.#noticeTimer);
    this.#noticeTimer = setTimeout(() => {
      this.notice = null;
      this.changed();
    }, NOTICE_MS);
    this.changed();
  }

  /** A conversation that this user has just opened. */
  add(conv: Conv): void {
    this.#put(conv);
    this.changed();
  }

  remove(c: ConvId): void {
    this.convs.delete(c);
    this.#sorted = null;
    this.#watchList();
    this.#close(c);
    this.receipts.remove(c);
    this.typists.clear(c);
    this.drafts.remove(c);
    if (this.current === c) this.current = null;
    this.changed();
  }

  #wake = (): void => {
    if (document.visibilityState === "visible") this.client.wake();
    else this.drafts.flushAll();
  };

  #lose = (): void => this.client.wake(OFFLINE_MS);

  #leave = (): void => this.drafts.close();

  #listen(): void {
    const { client } = this;
    client.on("state", (state) => {
      this.state = state;
      if (state.name === "live")
        for (const timeline of this.#timelines.values()) timeline.retry();
      if (state.name === "live") this.drafts.flushAll();
      this.changed();
    });
    client.on("convs", ({ convs }) => this.#onConvs(convs));
    client.on("prefs", ({ c, prefs, ts }) => {
      const conv = this.convs.get(c);
      if (!conv) return;
      Object.assign(conv, foldPrefs(conv, prefs, ts));
      this.#mutes.at(mutedUntil(conv, this.now));
      this.#sorted = null;
      this.changed();
      this.drafts.changed();
    });
    client.on("joined", ({ conv }) => {
      this.#put(conv);
      this.spoken = `You are in ${titleOf(conv)} now`;
      this.changed();
    });
    client.on("left", ({ c }) => this.remove(c));
    client.on("rec", ({ c, rec }) => this.#onRec(c, rec));
    client.on("hole", ({ c, hole }) => {
      const conv = this.convs.get(c);
      if (conv) conv.head = Math.max(conv.head, hole.hole[1]);
      this.#settle(c, hole.hole[1]);
      this.#timelines.get(c)?.apply(hole);
    });
    client.on("skipped", ({ c, to }) => {
      this.#settle(c, to);
      this.#timelines.get(c)?.reset(to);
      this.#countAgain();
    });
    client.on("hide", ({ c, s }) => {
      this.#timelines.get(c)?.hide(s);
      const conv = this.convs.get(c);
      if (conv?.last && !isHole(conv.last) && conv.last.s === s) this.#dropLast(conv);
      this.#countAgain();
      this.changed();
    });
    client.on("seen", ({ c, s, n }) => {
      this.seen.set(c, { s, n });
      this.#timelines.get(c)?.changed();
    });
    client.on("mark", (mark) => this.#onMark(mark));
    client.on("queue", ({ entries }) => {
      this.queue = entries;
      this.changed();
    });
    client.on("sent", ({ entry, result }) => this.#onSent(entry, result));
    client.on("failed", ({ entry, error }) => {
      if (entry.op !== "send" || !this.convs.has(entry.c)) {
        this.tell(`Could not ${DEEDS[entry.op]}: ${error.message}`, true);
        client.discard(entry.cid);
      }
    });
    client.on("typing", ({ c, user, ttl_ms }) => {
      if (user !== this.me && this.convs.has(c)) this.typists.add(c, user, ttl_ms);
    });
    client.on("trouble", ({ error }) => this.tell(error.message, true));
  }

  #put(conv: Conv): void {
    const known = this.convs.get(conv.c);
    if (!known) this.#came.set(conv.c, Date.now());
    this.convs.set(conv.c, merged(conv, known));
    this.#expiry.at(expiryOf(conv));
    this.#mutes.at(mutedUntil(conv, this.now));
    this.#sorted = null;
    if (!known) this.#watchList();
  }

  /** Those whose pictures stand in the list, the newest first. */
  #watchList(): void {
    const direct = this.list().filter((conv) => conv.kind === "direct" && conv.with);
    this.presences.show(
      "list",
      direct.map((conv) => conv.with!),
    );
  }

  /** What was written while this user was away has come now. */
  #deliver(): void {
    const news = (conv: Conv): boolean => conv.unread > 0 && conv.delivered < conv.head;
    for (const conv of this.list().slice(0, DELIVERED_MAX))
      if (hasMarks(conv) && news(conv)) this.client.mark(conv.c, { delivered: conv.head });
  }

  #onConvs(convs: Conv[]): void {
    const old = this.convs;
    this.convs = new Map();
    for (const conv of convs) {
      this.convs.set(conv.c, merged(conv, old.get(conv.c)));
      this.#expiry.at(expiryOf(conv));
      this.#mutes.at(mutedUntil(conv, this.now));
      const timeline = this.#timelines.get(conv.c);
      if (timeline) timeline.head = Math.max(timeline.head, conv.head);
    }
    this.#sorted = null;
    this.loaded = true;
    for (const c of this.#timelines.keys()) if (!this.convs.has(c)) this.#close(c);
    const conv = this.current === null ? undefined : this.convs.get(this.current);
    if (conv) this.#loadMarks(conv);
    this.#watchList();
    this.#deliver();
    this.changed();
    this.drafts.changed();
  }

  #onRec(c: ConvId, rec: Rec): void {
    if (rec.cid !== undefined && this.queue.some((entry) => entry.cid === rec.cid))
      this.#landed.add(rec.cid);
    this.#settle(c, rec.s);
    this.#timelines.get(c)?.apply(rec);
    const conv = this.convs.get(c);
    if (!conv) return;
    const news = rec.s > conv.head;
    conv.head = Math.max(conv.head, rec.s);
    conv.n = Math.max(conv.n, rec.n);
    if (isMessage(rec)) {
      if (news || when(conv) <= rec.ts) conv.last = rec;
      this.#expiry.at(rec.expires);
      this.#count(conv, rec, news);
    } else if (conv.last && !isHole(conv.last) && rec.target === conv.last.s) {
      if (rec.kind === "edit" && rec.body) conv.last = { ...conv.last, body: rec.body };
      if (rec.kind === "delete") conv.last = { hole: [rec.target, rec.target], why: "erased" };
    }
    if (news) this.#onNews(conv, rec);
    this.#sorted = null;
    this.changed();
  }

  /** What the list did not know yet when it came. */
  #onNews(conv: Conv, rec: Rec): void {
    Object.assign(conv, foldConv(conv, rec, this.me));
    if (rec.kind === "member" && conv.c === this.current) void this.receipts.load(conv);
    if (rec.from === this.me) return;
    if (isMessage(rec)) this.typists.remove(conv.c, rec.from);
    if (conv.c !== this.current) return;
    const event = eventOf(rec, this.me) ?? reactionOf(rec);
    if (event !== null && !isMessage(rec)) this.spoken = event;
  }

  #expire(now: number): number {
    let next = Infinity;
    for (const conv of this.convs.values()) {
      const expires = expiryOf(conv) ?? Infinity;
      if (expires > now) next = Math.min(next, expires);
      if (expires > now) continue;
      this.#dropLast(conv);
      this.#countAgain();
    }
    this.changed();
    return next;
  }

  /** The server knows the one before it. */
  #dropLast(conv: Conv): void {
    this.#came.set(conv.c, when(conv)); // it stays where it is in the list
    conv.last = null;
  }

  #unmute(now: number): number {
    const ends = [...this.convs.values()].map((conv) => mutedUntil(conv, now) ?? Infinity);
    this.changed();
    return Math.min(...ends);
  }

  /** Records up to `s` are here: nothing stands in for them any more. */
  #settle(c: ConvId, s: Seq): void {
    this.#answered = this.#answered.filter((each) => each.entry.c !== c || each.s > s);
  }

  #count(conv: Conv, rec: Rec, news: boolean): void {
    if (rec.from === this.me) {
      conv.read = Math.max(conv.read, rec.s);
      if (rec.s >= conv.head) conv.unread = conv.mentions = 0;
      return;
    }
    const named = isMention(rec, this.me);
    // What `sync` gave already counts the records that follow it up to its head.
    if (news && rec.s > conv.read) {
      conv.unread++;
      if (named) conv.mentions = Math.min(MENTIONS_MAX, (conv.mentions ?? 0) + 1);
    }
    if (hasMarks(conv)) this.client.mark(conv.c, { delivered: rec.s });
    if (conv.c !== this.current && isMuted(conv, this.now) && !named) return;
    const where = conv.c === this.current ? "" : ` in ${titleOf(conv)}`;
    this.spoken = `${rec.from}${where}: ${textOf(rec).slice(0, 300)}`;
  }

  #onMark(mark: { c: ConvId; user: string; read?: Seq; delivered?: Seq }): void {
    const conv = this.convs.get(mark.c);
    if (!conv) return;
    if (mark.user === this.me) {
      if ((mark.read ?? 0) <= conv.read) return; // our own
      conv.read = mark.read!;
      if (conv.read >= conv.head) conv.unread = conv.mentions = 0;
      else this.#countAgain();
    } else {
      return this.receipts.see(conv.c, mark.user, mark.read ?? 0, mark.delivered ?? 0);
    }
    this.changed();
  }

  /** Something happened that says not by itself how much is unread now: the server knows. */
  #countAgain(): void {
    this.#countTimer ??= setTimeout(async () => {
      this.#countTimer = undefined;
      const { convs } = await this.client.list().catch(() => ({ convs: [] }));
      for (const conv of convs) {
        // An answer from before what is known here would count that once more later.
        const known = this.convs.get(conv.c);
        if (conv.head >= (known?.head ?? Infinity)) this.#put(withPrefs(conv, known));
      }
      this.changed();
    }, COUNT_MS);
  }

  #onSent(entry: Entry, result: SendResult): void {
    this.#landed.delete(entry.cid);
    if (entry.op === "react") return this.#onReacted(entry, result.s);
    if (entry.op === "pin") return; // nobody is in a hurry
    const timeline = this.#timelines.get(entry.c);
    if (!timeline || !result.s || timeline.find(result.s)) return;
    timeline.foresee(foreseen(entry, result, this.me));
  }

  /** The record itself counts; until it is here the answer does. */
  #onReacted(entry: Entry, s: Seq | null): void {
    const given = this.client.cursors()[entry.c] ?? 0;
    if (s !== null && s > given) this.#answered.push({ entry, s });
  }
}

/** News of a conversation. Marks made here may still be on their way: their messages stay read. */
function merged(conv: Conv, known: Conv | undefined): Conv {
  if (!known || known.read <= conv.read) return conv;
  return {
    ...conv,
    read: known.read,
    unread: Math.min(conv.unread, known.unread),
    mentions: Math.min(conv.mentions ?? 0, known.mentions ?? 0),
  };
}

/** When the newest message has had its time. */
function expiryOf(conv: Conv): number | undefined {
  return conv.last && !isHole(conv.last) ? conv.last.expires : undefined;
}

/** When it is heard again, if it is muted now. */
function mutedUntil(conv: Conv, now: number): number | undefined {
  return isMuted(conv, now) ? conv.muted_until! : undefined;
}

/** One name per tab: a duplicated tab is a device of its own. */
function device(): string {
  const known = sessionStorage.getItem(DEVICE_KEY);
  if (known) return known;
  const name = `web-${crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36)}`;
  sessionStorage.setItem(DEVICE_KEY, name);
  return name;
}
