/**
 * The client: one user's conversations over one connection that comes back by itself.
 *
 *     const client = new Client({ url: "wss://chat.example/v1/ws", token: () => fetchToken() });
 *     client.on("rec", ({ rec }) => console.log(rec.c, rec.s, rec.from, rec.body));
 *     client.start();
 *     await client.send(c, { kind: "text", body: { text: "hello" } }).done;
 *
 * Promises:
 * - `rec` and `hole` give each sequence of a conversation once and in order, from the cursor that
 *   the client was made with (or from the head at the first `sync`), across reconnects and lag.
 * - A `send`, `edit`, `delete`, `react` or `pin` that was queued lands exactly once, in the order of
 *   its conversation, unless the server refuses it for good: then `failed` says so.
 * - Whom `watch` names is watched on every connection, and `setAway` holds on each.
 * - Reads and other writes are tried again while the connection comes back, for as long as
 *   `requestTimeoutMs`.
 * - Codes 4200–4299 and a token that was refused twice stop the client: `state` is `stopped`.
 */

import { Feed } from "./feed.ts";
import { Marks } from "./marks.ts";
import type { Fields, Link, ServerEvent, SocketClass } from "./link.ts";
import { Outbox, type Entry } from "./outbox.ts";
import { Reader } from "./reader.ts";
import { Connector, pause, tokenClaims, type State, type TokenWhy } from "./session.ts";
import { memoryStorage, type Storage } from "./storage.ts";
import {
  LoquatError,
  type Blocked,
  type ChangeResult,
  type Conv,
  type ConvId,
  type Hole,
  type Invite,
  type Member,
  type Millis,
  type OwnInvite,
  type Page,
} from "./types.ts";
import type { Found, Prefs, Presence, Privacy, Rec, Seen, SendResult, Seq } from "./types.ts";
import type { Session, Settings, Thread, Version } from "./types.ts";
import { Typing } from "./typing.ts";
import { ulid } from "./ulid.ts";
import { Watching } from "./watching.ts";

export interface ClientOptions {
  /** `ws://` or `wss://`, up to `/v1/ws`. */
  url: string;
  /**
   * The token, or who knows it. Asked at every connect (`start`), ahead of its end (`refresh`), and
   * after the last one was refused or turned out to have ended (`refused`): the same one again
   * stops the client.
   */
  token: string | ((why: TokenWhy) => string | Promise<string>);
  /** Names this device among the user's, at most 64 bytes. */
  device?: string;
  /** Default: the global `WebSocket`. Node before 22: that of npm `ws`. */
  socket?: SocketClass;
  /** Where unsent writes are kept; default: in memory. Pages: `webStorage(localStorage, user)`. */
  storage?: Storage;
  /** Where to go on: what `cursors()` gave earlier. */
  cursors?: Record<ConvId, Seq>;
  /** Being further behind than this, the client skips (`skipped`) instead of reading all. */
  lagMax?: number;
  openTimeoutMs?: number;
  requestTimeoutMs?: number;
  pingTimeoutMs?: number;
  /** Reconnects wait a random time up to base · 2^attempt, at most cap. */
  backoffMs?: [base: number, cap: number];
}

export interface ClientEvents {
  state: State;
  /** The whole conversation list, at each (re)connect. */
  convs: { convs: Conv[]; user: string; now: Millis };
  joined: { conv: Conv };
  left: { c: ConvId };
  rec: { c: ConvId; rec: Rec };
  hole: { c: ConvId; hole: Hole };
  /** Sequences that are not given out (see `lagMax`): read what is needed by `range`. */
  skipped: { c: ConvId; from: Seq; to: Seq };
  mark: { c: ConvId; user: string; read?: Seq; delivered?: Seq };
  /** Somebody writes in `c`: until a message comes of it, or for so long. */
  typing: { c: ConvId; user: string; ttl_ms: Millis };
  /** Somebody who is watched came, went away from the device, or left. */
  presence: Presence;
  /** This user set something of a conversation, on whatever device: for `foldPrefs`. */
  prefs: { c: ConvId; prefs: Prefs; ts: Millis };
  /** Any entry of the user's own log (`prefs` too), as the server sent it. */
  user: ServerEvent;
  /** This user blocked somebody on whatever device, or did so no more. */
  block: { user: string; on: boolean };
  /** This user deleted a message for the own devices: a hole `hidden` stands there now. */
  hide: { c: ConvId; s: Seq };
  /** This user has read a thread so far. */
  thread: { c: ConvId; thread: Seq; read: Seq };
  /** So many have read the newest message `s` of a large group; others tell `mark`. */
  seen: { c: ConvId; s: Seq; n: number };
  /** The queue of unsent writes changed. */
  queue: { entries: Entry[] };
  sent: { entry: Entry; result: SendResult };
  failed: { entry: Entry; error: LoquatError };
  /** Something that the client goes on after, such as a conversation that could not be read. */
  trouble: { error: LoquatError };
  /** Any other event of the server. */
  other: ServerEvent;
}

export interface Outgoing {
  kind?: string;
  body: Record<string, unknown>;
  reply?: Seq;
  thread?: Seq;
  mentions?: string[] | "all";
  ttl?: number;
}

export interface Queued<Result = SendResult> {
  cid: string;
  done: Promise<Result>;
}

export interface RangeQuery {
  from?: Seq;
  to?: Seq;
  max?: number;
  view?: "log" | "folded";
  order?: "asc" | "desc";
  /** Only the messages of this thread, without its root. */
  thread?: Seq;
}

/** Each of them narrows a search. */
export interface SearchQuery {
  /** Only this conversation. */
  c?: ConvId;
  from_user?: string;
  /** Only messages of this kind. */
  kind?: string;
  /** From then on. */
  after?: Millis;
  /** Until right before then. */
  before?: Millis;
  has?: "file" | "image" | "link";
  /** Hits of one page: 20, at most 100. */
  limit?: number;
  /** The `next` of the page before. */
  page?: string;
}

export type OpenRequest = { topic?: string; ttl?: number; cid?: string } & (
  | { kind: "direct"; with: string }
  | { kind: "group"; name: string; members: string[]; history?: "all" | "joined" }
);

type SyncReply = { u?: Seq; convs: Conv[]; next?: string | null };

const SYNC_LIMIT = 200;
/** Room in a `sync` frame for all but the cursors. */
const SYNC_SLACK = 2048;
const TRY_MS = 250;
/** Events held while the list is read; with more of them the client starts over. */
const HELD_MAX = 10_000;

export class Client extends EventTarget {
  /** From the token at first, then from the server. */
  user: string | null = null;
  /** Server time less ours. */
  clockSkewMs = 0;
  #session: Connector;
  #feed: Feed;
  #outbox: Outbox;
  #marks: Marks;
  #typing = new Typing();
  #watching: Watching;
  #reader: Reader | null = null;
  #requestTimeoutMs: number;
  #userCursor = 0;
  /** While the list is read; resolves when it is. */
  #syncing: Promise<void> | null = null;
  #held: ServerEvent[] = [];

  constructor(options: ClientOptions) {
    super();
    const { token } = options;
    const socket =
      options.socket ?? (globalThis.WebSocket as unknown as SocketClass | undefined);
    if (!socket)
      throw new LoquatError({ code: "bad_request", msg: "no WebSocket here: give one" });
    this.#requestTimeoutMs = options.requestTimeoutMs ?? 20_000;
    if (typeof token === "string") this.user = tokenClaims(token)?.sub ?? null;
    this.#session = new Connector(
      {
        url: options.url,
        token: async (why) => (typeof token === "string" ? token : token(why)),
        device: options.device ?? "sdk",
        socket,
        openTimeoutMs: options.openTimeoutMs ?? 15_000,
        requestTimeoutMs: this.#requestTimeoutMs,
        pingTimeoutMs: options.pingTimeoutMs ?? 8_000,
        backoffMs: options.backoffMs ?? [500, 30_000],
      },
      {
        onState: (state) => this.#emit("state", state),
        onEvent: (event) => this.#onEvent(event),
        onReady: (link, identity) => this.#sync(link, identity),
        onLive: () => this.#onLive(),
        onDown: () => {
          this.#feed.down();
          this.#watching.down();
        },
      },
    );
    this.#feed = new Feed(this.#feedHooks(), options.cursors ?? {}, options.lagMax ?? Infinity);
    this.#outbox = new Outbox(options.storage ?? memoryStorage(), {
      request: (op, fields) => this.#now(op, fields),
      onChange: () => this.#emit("queue", { entries: this.#outbox.entries() }),
      onSent: (entry, result) => this.#emit("sent", { entry, result }),
      onFailed: (entry, error) => this.#emit("failed", { entry, error }),
    });
    this.#marks = new Marks((fields) => this.#now("mark", fields));
    this.#watching = new Watching((fields) => this.#now("presence", fields));
  }

  get state(): State {
    return this.#session.state;
  }

  start(): void {
    this.#session.start();
  }

  /** Closes; unsent writes stay in the storage, cursors with `cursors()`. */
  stop(): void {
    this.#session.stop();
    this.#outbox.stop();
    this.#reader?.end();
  }

  /**
   * The network may be back, or gone: connects at once if it waits, else asks for a sign of life,
   * which has so long to come.
   */
  wake(pingTimeoutMs?: Millis): void {
    if (this.#session.link) this.#session.link.probe(pingTimeoutMs);
    else this.#session.wake();
  }

  /** Typed `addEventListener`; gives what takes it off again. */
  on<K extends keyof ClientEvents>(name: K, fn: (detail: ClientEvents[K]) => void): () => void {
    const listener = (event: Event): void => fn((event as CustomEvent<ClientEvents[K]>).detail);
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }

  /**
   * Every record and hole as it is given out. One loop at a time. A loop that takes long holds the
   * delivery back (events too): nothing piles up beyond `READER_MAX`, nothing is lost.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<{ c: ConvId; item: Rec | Hole }> {
    if (this.#reader)
      throw new LoquatError({ code: "conflict", msg: "somebody iterates already" });
    const reader = new Reader(() => (this.#reader = null));
    this.#reader = reader;
    return reader;
  }

  /** The last sequence given out of each conversation: for the next client to go on from. */
  cursors(): Record<ConvId, Seq> {
    return this.#feed.cursors();
  }

  /** Writes without an answer yet, and those the server refused for good (`error`). */
  queue(): Entry[] {
    return this.#outbox.entries();
  }
  /** A refused write once more. */
  retry(cid: string): void {
    this.#outbox.retry(cid);
  }
  /** Forgets a refused write. */
  discard(cid: string): void {
    this.#outbox.discard(cid);
  }

  send(c: ConvId, message: Outgoing, cid = ulid()): Queued {
    return this.#queue("send", c, { kind: "text", ...message }, cid);
  }
  edit(c: ConvId, s: Seq, body: Record<string, unknown>, cid = ulid()): Queued {
    return this.#queue("edit", c, { s, body }, cid);
  }
  /** For everybody: the content is gone for good, the sequence stays as a hole. */
  delete(c: ConvId, s: Seq, cid = ulid()): Queued {
    return this.#queue("delete", c, { s, for: "all" }, cid);
  }
  /** For this user alone; nobody else learns of it. */
  hide(c: ConvId, s: Seq, cid = ulid()): Queued<ChangeResult> {
    return this.#queue("delete", c, { s, for: "me" }, cid);
  }
  /** `emoji`: one emoji, or `:name:`. One's own reactions alone can be taken off. */
  react(c: ConvId, s: Seq, emoji: string, on = true, cid = ulid()): Queued<ChangeResult> {
    return this.#queue("react", c, { s, emoji, on }, cid);
  }
  pin(c: ConvId, s: Seq, on = true, cid = ulid()): Queued<ChangeResult> {
    return this.#queue("pin", c, { s, on }, cid);
  }

  open(request: OpenRequest): Promise<Conv> {
    return this.#patient("open", { cid: ulid(), ...request });
  }
  /** `set: "role"` takes the new role. */
  member(
    c: ConvId,
    user: string,
    set: "add" | "remove" | "role",
    role?: string,
  ): Promise<SendResult> {
    return this.#patient("member", { c, user, set, ...(role && { role }), cid: ulid() });
  }
  leave(c: ConvId): Promise<SendResult> {
    return this.#patient("leave", { c, cid: ulid() });
  }
  /** Lets whoever has the `code` join for `expires_s` (a week), `uses` times at most. */
  invite(c: ConvId, bound: { expires_s?: number; uses?: number } = {}): Promise<Invite> {
    return this.#patient("invite", { c, ...bound, cid: ulid() });
  }
  uninvite(c: ConvId, s: Seq): Promise<ChangeResult> {
    return this.#patient("uninvite", { c, s, cid: ulid() });
  }
  /** Those that still work: for owners and admins. */
  async invites(c: ConvId): Promise<OwnInvite[]> {
    return (await this.#patient<{ invites: OwnInvite[] }>("invites", { c })).invites;
  }
  /** `not_found`: no such invite, or it works no more; `forbidden`: was removed from the group. */
  join(code: string): Promise<Conv> {
    return this.#patient("join", { code, cid: ulid() });
  }
  /** Who is blocked can't write to this user, nor see whether that is there. */
  async block(user: string, on = true): Promise<void> {
    await this.#patient("block", { user, on });
  }
  async blocks(): Promise<Blocked[]> {
    return (await this.#patient<{ users: Blocked[] }>("blocks", {})).users;
  }
  /** Sets it where it is given; what it is now. */
  async privacy(presence?: Privacy): Promise<Privacy> {
    const fields = presence ? { presence } : {};
    return (await this.#patient<{ presence: Privacy }>("privacy", fields)).presence;
  }
  /** Sets what is given, all at once; the rest stays as it is. */
  meta(c: ConvId, settings: Settings): Promise<ChangeResult> {
    return this.#patient("meta", { c, ...settings, cid: ulid() });
  }
  /** Sets what is given, for all devices of this user; of several the last one wins. */
  async prefs(c: ConvId, prefs: Prefs): Promise<void> {
    await this.#patient("prefs", { c, ...prefs });
  }
  /** This user writes in `c`: call it at each key. Now or never: nothing waits for a connection. */
  typing(c: ConvId): void {
    if (this.state.name === "live" && this.#typing.due(c))
      this.#session.link?.tell("typing", { c });
  }
  /**
   * Asks to be told of these users (`presence`), as long as they share a conversation with this one;
   * of more than WATCH_MAX in all it throws `too_large`, and none is added.
   */
  watch(users: string[]): void {
    this.#watching.watch(users);
  }
  unwatch(users: string[]): void {
    this.#watching.unwatch(users);
  }
  /** Nobody is at this device, or somebody is again. */
  setAway(away: boolean): void {
    this.#watching.set(away);
  }
  /** What this user has read or received up to; forward only, sent within about half a second. */
  mark(c: ConvId, upTo: { read?: Seq; delivered?: Seq }): void {
    this.#marks.add(c, upTo);
  }
  /** How far this user has read a thread. */
  async markThread(c: ConvId, thread: Seq, read: Seq): Promise<void> {
    await this.#patient("mark", { c, thread, read });
  }
  /** The newest activity first. */
  threads(
    c: ConvId,
    page?: number,
    limit?: number,
  ): Promise<{ threads: Thread[]; next: number | null }> {
    return this.#patient("threads", { c, ...(page && { page }), ...(limit && { limit }) });
  }
  /** What a message said before: for its author and those who run the group. */
  async edits(c: ConvId, s: Seq): Promise<Version[]> {
    return (await this.#patient<{ versions: Version[] }>("edits", { c, s })).versions;
  }
  range(c: ConvId, query: RangeQuery = {}): Promise<Page> {
    return this.#patient("range", { c, ...query });
  }
  /**
   * Messages of this user's conversations, the newest first. `q`: words (all of them, in whatever
   * form), `"a phrase"`, `-not`, `begin*`, `from:user`, `in:conversation`, `before:`, `after:` or
   * `on:2026-01-31`, `has:file|image|link`, `mentions:me`; it may be empty where `query` says what
   * is looked for.
   */
  search(q: string, query: SearchQuery = {}): Promise<Found> {
    return this.#patient("search", { q, ...query });
  }
  /** `at`: who was a member right after that record. */
  members(
    c: ConvId,
    page?: string,
    at?: Seq,
  ): Promise<{ members: Member[]; next: string | null }> {
    return this.#patient("members", { c, ...(page && { page }), ...(at && { at }) });
  }
  /** Who has read up to `s`; `n`: how many of this page. */
  seen(c: ConvId, s: Seq, page?: string): Promise<Seen> {
    return this.#patient("seen", { c, s, ...(page && { page }) });
  }
  /** Those that are shown, or those that are `hidden`: pinned ones first, then the newest. */
  list(
    page?: string,
    limit = SYNC_LIMIT,
    hidden = false,
  ): Promise<{ convs: Conv[]; next: string | null }> {
    return this.#patient("list", { limit, ...(page && { page }), ...(hidden && { hidden }) });
  }
  ping(): Promise<{ now: Millis }> {
    return this.#patient("ping", {});
  }

  #queue(op: Entry["op"], c: ConvId, fields: Fields, cid: string): Queued {
    return { cid, done: this.#outbox.add({ cid, op, c, fields, at: Date.now() }) };
  }

  /** On the live connection or not at all. */
  #now<T>(op: string, fields: Fields): Promise<T> {
    const link = this.#session.link;
    if (!link || this.state.name !== "live")
      return Promise.reject(new LoquatError({ code: "closed", retry: true }));
    return link.request<T>(op, fields);
  }

  /** Waits for the connection, and tries again what may work later. */
  async #patient<T>(op: string, fields: Fields): Promise<T> {
    const end = Date.now() + this.#requestTimeoutMs;
    for (;;) {
      try {
        return await this.#now<T>(op, fields);
      } catch (err) {
        const error = LoquatError.from(err);
        const wait = error.afterMs ?? TRY_MS * (0.5 + Math.random());
        if (!error.retry || Date.now() + wait >= end || this.state.name === "stopped")
          throw error;
        await pause(wait);
      }
    }
  }

  #feedHooks(): ConstructorParameters<typeof Feed>[0] {
    return {
      give: (c, item) => {
        if ("hole" in item) this.#emit("hole", { c, hole: item });
        else this.#emit("rec", { c, rec: item });
        this.#reader?.put({ c, item });
      },
      skipped: (c, from, to) => this.#emit("skipped", { c, from, to }),
      ready: () => !this.#syncing && (this.#reader?.hasRoom() ?? true),
      room: () => this.#syncing ?? this.#reader?.room() ?? Promise.resolve(),
      range: (fields) => this.#onLink("range", { ...fields, view: "log" }),
      resume: (c, cur) => this.#onLink("resume", { c, cur }),
      broken: (_c, error) => {
        this.#emit("trouble", { error });
        this.#session.link?.close(4000, error.message); // a new session starts from the cursors
      },
    };
  }

  /** Also before the session is live. */
  #onLink<T>(op: string, fields: Fields): Promise<T> {
    const link = this.#session.link;
    if (!link) return Promise.reject(new LoquatError({ code: "closed", retry: true }));
    return link.request<T>(op, fields);
  }

  /**
   * The server is live from its first answer on, so events come before the list is complete. They
   * have their turn after it: records are read from the log then, others are held.
   */
  async #sync(link: Link, identity: Session): Promise<void> {
    this.user = identity.user;
    this.clockSkewMs = identity.now - Date.now();
    this.#held = [];
    let done!: () => void;
    this.#syncing = new Promise((resolve) => (done = resolve));
    try {
      const cur = fitting(this.#feed.cursors(), link.maxIn - SYNC_SLACK);
      const convs = await this.#readList(link, cur);
      this.#syncing = null;
      this.#emit("convs", { convs, user: identity.user, now: identity.now });
      for (const conv of convs) this.#feed.synced(conv, conv.c in cur);
      for (const event of this.#held.splice(0)) this.#onEvent(event);
    } finally {
      this.#syncing = null;
      done();
    }
  }

  async #readList(link: Link, cur: Record<ConvId, Seq>): Promise<Conv[]> {
    const convs: Conv[] = [];
    let page: string | null = null;
    do {
      // The cursors hold for all pages.
      const more = page === null ? { cur, u: this.#userCursor } : { page };
      const fields = { limit: SYNC_LIMIT, ...more };
      const reply: SyncReply = await link.request("sync", fields);
      if (page === null) this.#userCursor = Math.max(this.#userCursor, reply.u ?? 0);
      convs.push(...reply.convs);
      page = reply.next ?? null;
    } while (page !== null);
    return convs;
  }

  #onLive(): void {
    this.#outbox.flush();
    this.#marks.flush();
    this.#watching.live();
  }

  #onEvent(event: ServerEvent): void {
    const c = event["c"] as ConvId;
    if (event.ev === "typing")
      return this.#emit("typing", event as unknown as ClientEvents["typing"]); // soon past
    if (this.#syncing && event.ev !== "rec" && event.ev !== "goodbye") return this.#hold(event);
    switch (event.ev) {
      case "rec": {
        const { ev: _, ...item } = event;
        return this.#feed.live(c, item as unknown as Rec | Hole);
      }
      case "lag":
        return this.#feed.lag(c, event["head"] as Seq);
      case "joined": {
        const { ev: _, ...conv } = event;
        this.#feed.joined(conv as unknown as Conv);
        return this.#emit("joined", { conv: conv as unknown as Conv });
      }
      case "left":
        this.#feed.left(c);
        return this.#emit("left", { c });
      case "mark":
        return "thread" in event
          ? this.#emit("thread", event as unknown as ClientEvents["thread"])
          : this.#emit("mark", event as unknown as ClientEvents["mark"]);
      case "seen":
        return this.#emit("seen", event as unknown as ClientEvents["seen"]);
      case "presence": {
        const presence = event as unknown as Presence;
        return this.#watching.has(presence.user) ? this.#emit("presence", presence) : undefined;
      }
      case "user":
        this.#userCursor = Math.max(this.#userCursor, Number(event["s"]) || 0);
        this.#emit("user", event);
        return this.#onOwn(event);
      default:
        return this.#emit("other", event);
    }
  }

  /** An entry of the user's own log. */
  #onOwn({ kind, body, ts }: ServerEvent): void {
    if (kind === "block" || kind === "hide") return this.#emit(kind, body as never);
    if (kind !== "prefs") return;
    const { c, ...prefs } = body as Prefs & { c: ConvId };
    this.#emit("prefs", { c, prefs, ts: ts as Millis });
  }

  #hold(event: ServerEvent): void {
    if (this.#held.push(event) > HELD_MAX) this.#session.link?.close(4000, "too much at once");
  }

  #emit<K extends keyof ClientEvents>(name: K, detail: ClientEvents[K]): void {
    /* Node 18 has EventTarget and Event, and no CustomEvent. */
    this.dispatchEvent(Object.assign(new Event(name), { detail }));
  }
}

const encoder = new TextEncoder();

/** As many cursors as fit; the others are compared with the heads that `sync` gives. */
function fitting(cursors: Record<ConvId, Seq>, bytesMax: number): Record<ConvId, Seq> {
  const out: Record<ConvId, Seq> = {};
  let bytes = 0;
  for (const [c, at] of Object.entries(cursors)) {
    bytes += encoder.encode(`${JSON.stringify(c)}:${at},`).length;
    if (bytes > bytesMax) break;
    out[c] = at;
  }
  return out;
}
