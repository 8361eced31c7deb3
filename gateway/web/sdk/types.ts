/** What goes over the wire, in the protocol's own words. Unknown fields are ignored. */

export type ConvId = string;
/** Position of a record in its conversation: 1, 2, 3 … dense, never reused. */
export type Seq = number;
/** Unix milliseconds. */
export type Millis = number;

export interface Rec {
  c: ConvId;
  s: Seq;
  mid: string;
  ts: Millis;
  from: string;
  /** `text`, `image`, `file`, `x-…` (messages); `edit`, `react`, `member`, `meta` … (changes). */
  kind: string;
  body?: Record<string, unknown>;
  /** The author's own id of the request; only the author sees it. */
  cid?: string;
  /** Messages up to and including this record. */
  n: number;
  reply?: Seq;
  thread?: Seq;
  mentions?: string[] | "all";
  expires?: Millis;
  /** Only in the folded view: how many messages hang on this root of a thread. */
  replies?: number;
  /** The record that an `edit`, `delete`, `react`, `pin` changes. */
  target?: Seq;
  /** Only in the folded view: when the message was last edited. */
  edited?: Millis;
  /** Only in the folded view: by emoji, in the order of their first use. */
  reactions?: Record<string, Reaction>;
  /** Only in the folded view: when the message was pinned. */
  pinned?: Millis;
}

export interface Reaction {
  /** How many users have it on. */
  n: number;
  /** The reader is one of them. */
  me: boolean;
}

export type HoleWhy = "erased" | "expired" | "hidden" | "compacted" | "trimmed";

/** Sequences that exist but have no content (any more) for this reader; both ends inclusive. */
export interface Hole {
  c?: ConvId;
  hole: [Seq, Seq];
  why: HoleWhy;
}

export type History = "all" | "joined";

/** What `meta` sets; null takes a topic, a ttl or a language away. A direct conversation has only
 * `ttl`, `lang` and `searchable`. */
export interface Settings {
  name?: string;
  topic?: string | null;
  ttl?: number | null;
  history?: History;
  announce?: boolean;
  lang?: string | null;
  searchable?: boolean;
}

/** What a user sets of a conversation for all of the own devices; what is left out stays. */
export interface Prefs {
  /** No noise until then; null or 0: not muted. */
  muted_until?: Millis | null;
  /** First in the list. */
  pinned?: boolean;
  /** Out of the list, until a newer message comes. */
  hidden?: boolean;
  /** What is not sent yet, at most DRAFT_MAX bytes; null takes it away. */
  draft?: string | null;
}

/** Bytes of a draft. */
export const DRAFT_MAX = 4096;
/** As far as a `Date` goes. */
export const MUTED_FOR_EVER: Millis = 8_640_000_000_000_000;

export interface Conv extends Prefs {
  c: ConvId;
  kind: "direct" | "group";
  name?: string | null;
  topic?: string | null;
  /** Seconds that messages stay; null: for good. */
  ttl?: number | null;
  /** What those who join may read. */
  history?: History;
  /** Only owners and admins write. */
  announce?: boolean;
  /** The code of the language whose forms of words a search knows; none: by the script. */
  lang?: string | null;
  /** Not there: true. */
  searchable?: boolean;
  /** Pinned messages, in the order of pinning. */
  pins?: Seq[];
  members: number;
  role?: string | null;
  head: Seq;
  floor: Seq;
  n: number;
  unread: number;
  /** Unread messages that name this user, or all; 1000: or more. */
  mentions?: number;
  read: Seq;
  delivered: Seq;
  created?: Millis;
  last?: Rec | Hole | null;
  with?: string | null;
  /** Not of the server: when `hidden` was set, where an event told it. */
  hidden_at?: Millis;
}

export interface Member {
  user: string;
  role: string;
  joined?: Millis;
  read?: Seq;
  delivered?: Seq;
}

export interface Presence {
  user: string;
  state: "online" | "away" | "offline";
  /** When somebody `offline` was there last; null: nobody knows. */
  last_seen: Millis | null;
}

/** Who has read up to a record: `n` of this page, by name. */
export interface Seen {
  n: number;
  users: string[];
  next: string | null;
}

/** A user who is blocked, since when. */
export interface Blocked {
  user: string;
  ts: Millis;
}

/** Who may know that this user is there: whoever shares a conversation, or nobody. */
export type Privacy = "shared" | "hidden";

/** What lets people into a group until it expires or was used so often (null: no bound). */
export interface Invite {
  s: Seq;
  code: string;
  expires: Millis;
  uses: number | null;
}
export interface OwnInvite extends Invite {
  by: string;
  created: Millis;
  used: number;
}

/** What a message said: at first, or since an edit. */
export interface Version {
  s: Seq;
  ts: Millis;
  body: Record<string, unknown>;
}

/** A thread as this user sees it: `s` is its root. */
export interface Thread {
  s: Seq;
  replies: number;
  unread: number;
  read: Seq;
  last: Seq;
}

export interface Page {
  records: (Rec | Hole)[];
  next: Seq | null;
  head: Seq;
  floor: Seq;
}

/** A message that was looked for. */
export interface Hit {
  c: ConvId;
  s: Seq;
  /** As it is now, folded. */
  record: Rec;
  /**
   * What was found, from and to (exclusive), in UTF-16 code units of the text: `text` of the body,
   * `alt` of an image, `name` of a file.
   */
  spans: [from: number, to: number][];
}
/** A page of hits; it may be empty and still have a `next` one: nothing was found so far. */
export interface Found {
  hits: Hit[];
  next: string | null;
  /**
   * `behind`: messages that the index has yet to take in; `complete`: they were looked through all
   * the same, and nothing is missing.
   */
  indexed: { behind: number; complete: boolean };
}

export interface SendResult {
  s: Seq;
  mid: string;
  ts: Millis;
  n: number;
  dup?: boolean;
}

/** Of a change; `s` null: it was so already, and there is no record of it. */
export type ChangeResult = SendResult | { s: null; dup: boolean };

export interface Session {
  user: string;
  device: string;
  now: Millis;
  scope?: string;
}

export interface Hello {
  v: number;
  node?: string;
  ping_ms: number;
  max_in: number;
  window: number;
  auth_ms: number;
}

export interface WireError {
  code: string;
  msg?: string;
  retry?: boolean;
  after_ms?: number;
}

/** The server's `err`, or one of the SDK's own: `timeout`, `closed`, `queue_full`, `protocol`. */
export class LoquatError extends Error {
  readonly code: string;
  readonly retry: boolean;
  readonly afterMs: number | undefined;

  constructor(err: WireError) {
    super(err.msg ? `${err.code}: ${err.msg}` : err.code);
    this.name = "LoquatError";
    this.code = err.code;
    this.retry = err.retry ?? false;
    this.afterMs = err.after_ms;
  }

  static from(err: unknown): LoquatError {
    if (err instanceof LoquatError) return err;
    return new LoquatError({
      code: "internal",
      msg: err instanceof Error ? err.message : String(err),
    });
  }
}

/** The message names this user, or everybody. */
export function isMention(rec: Rec, user: string | null): boolean {
  const { mentions } = rec;
  return mentions === "all" || (user !== null && (mentions?.includes(user) ?? false));
}

export function isHole(item: Rec | Hole): item is Hole {
  return "hole" in item;
}

/** Only messages count as unread; everything else changes one, or the conversation. */
export function isMessage(rec: Rec): boolean {
  return (
    rec.kind === "text" ||
    rec.kind === "image" ||
    rec.kind === "file" ||
    rec.kind.startsWith("x-")
  );
}
