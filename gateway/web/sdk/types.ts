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
  /** `text`, `image`, `file`, `x-…` (messages); `edit`, `delete`, `member`, `meta` … (changes). */
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
  /** The record that an `edit`, `delete` … changes. */
  target?: Seq;
  /** Only in the folded view: when the message was last edited. */
  edited?: Millis;
}

export type HoleWhy = "erased" | "expired" | "hidden" | "compacted" | "trimmed";

/** Sequences that exist but have no content (any more) for this reader; both ends inclusive. */
export interface Hole {
  c?: ConvId;
  hole: [Seq, Seq];
  why: HoleWhy;
}

export interface Conv {
  c: ConvId;
  kind: "direct" | "group";
  name?: string | null;
  topic?: string | null;
  members: number;
  role?: string | null;
  head: Seq;
  floor: Seq;
  n: number;
  unread: number;
  mentions?: number;
  read: Seq;
  delivered: Seq;
  last?: Rec | Hole | null;
  with?: string | null;
}

export interface Member {
  user: string;
  role: string;
  joined?: Millis;
  read?: Seq;
  delivered?: Seq;
}

export interface Page {
  records: (Rec | Hole)[];
  next: Seq | null;
  head: Seq;
  floor: Seq;
}

export interface SendResult {
  s: Seq;
  mid: string;
  ts: Millis;
  n: number;
  dup?: boolean;
}

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
