/** Threads beside a conversation: the list of them, and one that is open. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { isHole, type Conv, type Rec, type Seq } from "../sdk/index.ts";
import { Composer, type Mode } from "./composer.tsx";
import { Row } from "./message.tsx";
import { useObserved } from "./observe.ts";
import { Panel } from "./panel.tsx";
import { Pending } from "./pending.tsx";
import { Replies } from "./replies.ts";
import { Rows } from "./rows.ts";
import type { Store } from "./store.ts";
import type { Threads } from "./threads.ts";
import type { Timeline } from "./timeline.ts";
import { deedsOf, mayEdit, type RowActions } from "./tools.tsx";
import { count, plural, shortTime, textOf } from "./words.ts";

interface Props {
  store: Store;
  conv: Conv;
  timeline: Timeline;
  threads: Threads;
  onClose: () => void;
}

export function ThreadList(props: Props & { onOpen: (s: Seq) => void }) {
  const { store, timeline, onOpen, onClose } = props;
  const threads = useObserved(props.threads);
  useObserved(timeline);
  return (
    <Panel class="threads" label="Threads" title="Threads" onClose={onClose}>
      {threads.list.length === 0 && (
        <p class="nothing">No threads yet. A message's menu begins one.</p>
      )}
      <ul>
        {threads.list.map((thread) => {
          const root = timeline.quote(thread.s);
          const rec = root && !isHole(root) ? root : null;
          return (
            <li key={thread.s}>
              <button type="button" class="to-thread" onClick={() => onOpen(thread.s)}>
                <b>{rec ? (rec.from === store.me ? "You" : rec.from) : ""}</b>
                {rec && <time>{shortTime(rec.ts)}</time>}
                <span class="what">
                  {rec
                    ? textOf(rec).slice(0, 200)
                    : root === undefined
                      ? "…"
                      : "Message deleted"}
                </span>
                <span class="replies">{plural(thread.replies, "reply", "replies")}</span>
                {thread.unread > 0 && (
                  <span
                    class="badge"
                    aria-label={plural(thread.unread, "unread reply", "unread replies")}
                  >
                    {count(thread.unread)}
                  </span>
                )}
              </button>
            </li>
          );
        })}
      </ul>
      {threads.next !== null && (
        <button type="button" onClick={() => void threads.load(threads.next!)}>
          More
        </button>
      )}
    </Panel>
  );
}

export function ThreadPane(
  props: Props & { root: Seq; actions: RowActions; onBack: () => void },
) {
  const { store, conv, timeline, threads, root } = props;
  useObserved(timeline);
  const replies = useMemo(() => new Replies(store.client, conv.c, root), [conv.c, root]);
  useEffect(() => () => replies.close(), [replies]);
  const { first, list, next, failed } = useObserved(replies);
  const [mode, setMode] = useState<Mode>({ kind: "new" });
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => new Rows(() => scroller.current), []);
  useEffect(() => () => rows.close(), []);
  const actions: RowActions = {
    ...props.actions,
    reply: (rec) => setMode({ kind: "reply", rec }),
    edit: (rec) => setMode({ kind: "edit", rec }),
    thread: undefined,
    jump: (s) => {
      const row = rows.row(s);
      if (!row) return props.actions.jump(s);
      row.scrollIntoView({ block: "center" });
      rows.point(s);
    },
  };
  rows.deeds = (s) => {
    const rec = replies.message(s);
    return rec ? deedsOf(rec, conv, store.me, actions) : [];
  };
  const atEnd = useRef(true);
  const newest = list.at(-1)?.s ?? 0;
  const toEnd = (): void => {
    scroller.current!.scrollTop = scroller.current!.scrollHeight;
  };
  // What is at the end stays there; who looks at it has read it.
  useLayoutEffect(() => {
    if (atEnd.current) toEnd();
  });
  const read = (): void => {
    const element = scroller.current!;
    atEnd.current = element.scrollTop + element.clientHeight >= element.scrollHeight - 8;
    const present = document.visibilityState === "visible" && document.hasFocus();
    if (newest > 0 && atEnd.current && present) threads.read(root, newest);
  };
  useEffect(() => {
    read();
    addEventListener("focus", read);
    return () => removeEventListener("focus", read);
  }, [newest, threads.list]);
  const editLast = (): void => {
    const rec = list.findLast((each) => mayEdit(each, store.me));
    if (rec) actions.edit(rec);
  };
  return (
    <Panel
      class="thread"
      label="Thread"
      title="Thread"
      onBack={props.onBack}
      onClose={props.onClose}
    >
      <div
        class="replies"
        ref={scroller}
        role="log"
        aria-label="Replies"
        {...rows.handlers}
        onScroll={() => {
          rows.moved();
          read();
        }}
      >
        {first ? (
          <ThreadRow {...props} rows={rows} actions={actions} item={first} newest={newest} />
        ) : (
          <p class="nothing">{first === undefined ? "…" : "Message deleted"}</p>
        )}
        <p class="count">
          {plural(Math.max(list.length, first?.replies ?? 0), "reply", "replies")}
        </p>
        {failed && (
          <button type="button" onClick={() => void replies.load()}>
            These replies could not be read. Try again
          </button>
        )}
        {next !== null && (
          <button type="button" onClick={() => void replies.load(next)}>
            Earlier replies
          </button>
        )}
        {list.map((rec, i) => (
          <ThreadRow
            key={rec.s}
            {...props}
            rows={rows}
            actions={actions}
            item={rec}
            before={list[i - 1] ?? first ?? undefined}
            after={list[i + 1]}
            apart={i === 0}
            newest={newest}
          />
        ))}
        <Pending store={store} c={conv.c} thread={root} onGrow={toEnd} />
      </div>
      <Composer
        store={store}
        conv={conv}
        thread={root}
        mode={mode}
        onDone={() => setMode({ kind: "new" })}
        onEditLast={editLast}
      />
    </Panel>
  );
}

/** As in the conversation. */
function ThreadRow(props: {
  store: Store;
  conv: Conv;
  timeline: Timeline;
  root: Seq;
  rows: Rows;
  actions: RowActions;
  item: Rec;
  before?: Rec | undefined;
  after?: Rec | undefined;
  apart?: boolean;
  newest: Seq;
}) {
  const { store, conv, rows, newest, root } = props;
  const { s } = props.item;
  const focus = useObserved(rows).focus ?? (newest || root);
  return (
    <Row
      {...props}
      before={props.before}
      after={props.after}
      peer={store.receipts.of(conv)}
      seen={store.seen.get(conv.c)}
      active={rows.active === s}
      reachable={focus === s}
      flash={rows.flash === s}
      firstNew={false}
    />
  );
}
