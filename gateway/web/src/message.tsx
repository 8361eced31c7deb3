/** One row of a conversation: a message in its bubble, or a line about what happened. */

import { isHole, isMention, isMessage, type Conv, type Rec, type Seq } from "../sdk/index.ts";
import { Avatar, hueClass, Icon, Linked } from "./parts.tsx";
import { Reactions } from "./reactions.tsx";
import type { Peer } from "./receipts.ts";
import type { Seen, Store } from "./store.ts";
import type { Item, Timeline } from "./timeline.ts";
import { deedsOf, Tools, type RowActions } from "./tools.tsx";
import { mayCompare } from "./versions.tsx";
import { count, dayOf, eventOf, holeText, momentOf, plural } from "./words.ts";
import { sameDay, textOf, timeOf } from "./words.ts";

export interface RowProps {
  store: Store;
  conv: Conv;
  timeline: Timeline;
  item: Item;
  /** The row above, if it is at hand. */
  before: Item | undefined;
  after: Item | undefined;
  peer: Peer | null;
  seen: Seen | undefined;
  active: boolean;
  /** The only row that Tab reaches. */
  reachable: boolean;
  flash: boolean;
  firstNew: boolean;
  /** Something else stands between it and the row above. */
  apart?: boolean;
  actions: RowActions;
}

const GROUP_MS = 5 * 60_000;
const LONELY_EMOJI =
  /^(?:\p{Extended_Pictographic}[\u{1F3FB}-\u{1F3FF}\uFE0F]?(?:\u200D|\s)?){1,3}$/u;

const tsOf = (item: Item | undefined): number | null =>
  item && !isHole(item) ? item.ts : null;

function together(a: Item | undefined, b: Item | undefined): boolean {
  if (!a || !b || isHole(a) || isHole(b) || !isMessage(a) || !isMessage(b)) return false;
  if (a.kind.startsWith("x-") || b.kind.startsWith("x-")) return false;
  return a.from === b.from && Math.abs(b.ts - a.ts) < GROUP_MS && sameDay(a.ts, b.ts);
}

export function Row(props: RowProps) {
  const { item, before } = props;
  const ts = tsOf(item);
  const earlier = tsOf(before);
  const newDay =
    ts !== null && (before === undefined || (earlier !== null && !sameDay(ts, earlier)));
  const apart = newDay || props.firstNew || props.apart;
  return (
    <>
      {newDay && (
        <div class="day" role="separator">
          <span>{dayOf(ts)}</span>
        </div>
      )}
      {props.firstNew && (
        <div class="new-line" role="separator">
          <span>New messages</span>
        </div>
      )}
      <Content {...props} joined={!apart && together(before, item)} />
    </>
  );
}

function Content(props: RowProps & { joined: boolean }) {
  const { item, store } = props;
  if (isHole(item)) {
    const text = holeText(item);
    return text === null ? null : <Line s={item.hole[0]} text={text} />;
  }
  const text = eventOf(item, store.me);
  const { target } = item;
  const leads = item.kind === "pin" && target !== undefined;
  const jump = leads ? () => props.actions.jump(target) : undefined;
  if (text !== null) return <Line s={item.s} text={text} onJump={jump} />;
  return isMessage(item) ? <Message {...props} rec={item} /> : null;
}

function Line(props: { s: Seq; text: string; onJump?: (() => void) | undefined }) {
  return (
    <div class="line" data-s={props.s}>
      {props.onJump ? (
        <button type="button" tabIndex={-1} onClick={props.onJump}>
          {props.text}
        </button>
      ) : (
        props.text
      )}
    </div>
  );
}

function Message(props: RowProps & { rec: Rec; joined: boolean }) {
  const { store, conv, joined } = props;
  const rec = store.expected(props.rec);
  const own = rec.from === store.me;
  const change = store.changeOf(conv.c, rec.s);
  const body = change?.op === "edit" ? (change.fields["body"] as Rec["body"]) : rec.body;
  const text = textOf({ kind: rec.kind, ...(body && { body }) });
  const named = conv.kind === "group" && !own;
  const going = change?.op === "delete";
  const called = !own && isMention(rec, store.me);
  const shape = [
    "msg",
    own ? "own" : "other",
    joined && "joined",
    called && "called",
    props.flash && "flash",
    going && "going",
  ];
  const ends = !together(rec, props.after);
  return (
    <div
      class={shape.filter(Boolean).join(" ") + (ends ? " ends" : "")}
      role="article"
      data-s={rec.s}
      tabIndex={props.reachable ? 0 : -1}
      aria-label={`${own ? "You" : rec.from}, ${timeOf(rec.ts)}${called ? ", mentions you" : ""}`}
    >
      {named && (joined ? <span class="avatar-room" /> : <Avatar name={rec.from} />)}
      <div class="stack">
        <div class={`bubble${LONELY_EMOJI.test(text) ? " big" : ""}`}>
          {named && !joined && <div class={`author ${hueClass(rec.from)}`}>{rec.from}</div>}
          {rec.thread !== undefined && props.actions.thread && (
            <InThread {...props} s={rec.thread} onOpen={props.actions.thread} />
          )}
          {rec.reply !== undefined && <Quote {...props} s={rec.reply} />}
          <Body rec={rec} text={text} me={store.me} />
          <span class="meta" title={props.active ? momentOf(rec.ts) : undefined}>
            {rec.pinned !== undefined && (
              <span class="pinned" role="img" aria-label="Pinned">
                <Icon name="pin" />
              </span>
            )}
            {(rec.edited !== undefined || change?.op === "edit") && (
              <Edited {...props} rec={rec} known={rec.edited !== undefined} />
            )}
            <time dateTime={new Date(rec.ts).toISOString()}>{timeOf(rec.ts)}</time>
            {own && <Tick s={rec.s} peer={props.peer} busy={change !== undefined} />}
          </span>
        </div>
        <Counts {...props} rec={rec} />
        {rec.reactions && (
          <Reactions
            rec={rec}
            reachable={props.reachable}
            onToggle={(emoji) => store.toggle(rec, emoji)}
          />
        )}
      </div>
      {props.active && !going && (
        <Tools deeds={deedsOf(rec, conv, store.me, props.actions)} />
      )}
    </div>
  );
}

/** How many answered in its thread, and how many have read one's own. */
function Counts(props: RowProps & { rec: Rec }) {
  const { rec, seen, actions } = props;
  const { thread } = actions;
  const tabIndex = props.reachable ? 0 : -1;
  const own = rec.from === props.store.me;
  return (
    <>
      {thread && rec.replies !== undefined && rec.replies > 0 && (
        <button
          type="button"
          class="replies-of"
          tabIndex={tabIndex}
          onClick={() => thread(rec.s)}
        >
          <Icon name="thread" />
          {plural(rec.replies, "reply", "replies")}
        </button>
      )}
      {own && seen?.s === rec.s && seen.n > 1 && (
        <button
          type="button"
          class="seen-by"
          tabIndex={tabIndex}
          onClick={() => actions.readers(rec)}
        >
          Read by {count(seen.n - 1)}
        </button>
      )}
    </>
  );
}

function Body(props: { rec: Rec; text: string; me: string }) {
  const { rec, text, me } = props;
  if (rec.kind === "text")
    return (
      <span class="text">
        <Linked text={text} mentions={rec.mentions} me={me} />
      </span>
    );
  return (
    <span class="attachment">
      <Icon name="file" />
      <span class="text">{text}</span>
    </span>
  );
}

function Tick(props: { s: Seq; peer: Peer | null; busy: boolean }) {
  const { s, peer, busy } = props;
  const state = busy
    ? "pending"
    : peer && peer.read >= s
      ? "read"
      : peer && peer.delivered >= s
        ? "delivered"
        : "sent";
  const icon = state === "pending" ? "clock" : state === "sent" ? "check" : "checks";
  return (
    <span class={`tick ${state}`} role="img" aria-label={state}>
      <Icon name={icon} />
    </span>
  );
}

function Edited(props: RowProps & { rec: Rec; known: boolean }) {
  const { rec, conv, store } = props;
  if (!props.known || !mayCompare(conv, rec, store.me)) return <span>edited </span>;
  return (
    <button
      type="button"
      class="edited"
      tabIndex={-1}
      title="What it said before"
      onClick={() => props.actions.versions(rec)}
    >
      edited
    </button>
  );
}

/** Leads to the thread that a message is in. */
function InThread(props: RowProps & { s: Seq; onOpen: (s: Seq) => void }) {
  const root = props.timeline.quote(props.s);
  const text = root && !isHole(root) ? textOf(root).slice(0, 80) : "…";
  return (
    <button
      type="button"
      class="in-thread"
      tabIndex={-1}
      aria-label={`In the thread: ${text}`}
      onClick={() => props.onOpen(props.s)}
    >
      <Icon name="thread" />
      <span>{text}</span>
    </button>
  );
}

function Quote(props: RowProps & { s: Seq }) {
  const quoted = props.timeline.quote(props.s);
  const there = quoted && !isHole(quoted) ? quoted : null;
  const who = there ? (there.from === props.store.me ? "You" : there.from) : "";
  const text = there
    ? textOf(there).slice(0, 200)
    : quoted === undefined
      ? "…"
      : "Message deleted";
  return (
    <button
      type="button"
      class={`quote ${there ? hueClass(there.from) : ""}`}
      tabIndex={-1}
      aria-label={`In reply to ${who}: ${text}`}
      onClick={() => there && props.actions.jump(props.s)}
    >
      <b>{who}</b>
      <span>{text}</span>
    </button>
  );
}
