/** Threads beside a conversation: the list of them, and one that is open. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { isHole, type Conv, type Rec, type Seq } from "../sdk/index.ts";
import { mayWrite } from "./message.tsx";
import { useObserved } from "./observe.ts";
import { Avatar, Icon, Linked } from "./parts.tsx";
import { Replies } from "./replies.ts";
import type { Store } from "./store.ts";
import type { Threads } from "./threads.ts";
import type { Timeline } from "./timeline.ts";
import { count, momentOf, plural, shortTime, textOf, timeOf } from "./words.ts";

interface Props {
  store: Store;
  conv: Conv;
  timeline: Timeline;
  threads: Threads;
  onClose: () => void;
}

function Head(props: { title: string; onBack?: () => void; onClose: () => void }) {
  return (
    <header>
      {props.onBack && (
        <button type="button" class="round" aria-label="All threads" onClick={props.onBack}>
          <Icon name="back" />
        </button>
      )}
      <h2>{props.title}</h2>
      <button type="button" class="round" aria-label="Close" onClick={props.onClose}>
        <Icon name="close" />
      </button>
    </header>
  );
}

export function ThreadList(props: Props & { onOpen: (s: Seq) => void }) {
  const { store, timeline, onOpen, onClose } = props;
  const threads = useObserved(props.threads);
  useObserved(timeline);
  return (
    <aside class="members threads" aria-label="Threads">
      <Head title="Threads" onClose={onClose} />
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
    </aside>
  );
}

export function ThreadPane(props: Props & { root: Seq; onBack: () => void }) {
  const { store, conv, timeline, threads, root, onBack, onClose } = props;
  const replies = useMemo(() => new Replies(store.client, conv.c, root), [conv.c, root]);
  useEffect(() => () => replies.close(), [replies]);
  const { list, next, failed } = useObserved(replies);
  useObserved(timeline);
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const newest = list.at(-1)?.s ?? 0;
  // What is at the end stays there; who looks at it has read it.
  useLayoutEffect(() => {
    const element = scroller.current!;
    if (atEnd.current) element.scrollTop = element.scrollHeight;
  }, [newest, list.length]);
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
  const first = timeline.quote(root);
  return (
    <aside class="members thread" aria-label="Thread">
      <Head title="Thread" onBack={onBack} onClose={onClose} />
      <div class="replies" ref={scroller} onScroll={read} role="log" aria-label="Replies">
        {first && !isHole(first) ? (
          <ReplyRow rec={first} store={store} />
        ) : (
          <p class="nothing">{first === undefined ? "…" : "Message deleted"}</p>
        )}
        <p class="count">
          {plural(Math.max(list.length, threadOf(threads, root)), "reply", "replies")}
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
        {list.map((rec) => (
          <ReplyRow key={rec.s} rec={rec} store={store} />
        ))}
        {store
          .pending(conv.c)
          .filter((entry) => entry.fields["thread"] === root && !entry.error)
          .map((entry) => (
            <p key={entry.cid} class="waiting">
              {textOf({ kind: "text", body: entry.fields["body"] as Record<string, unknown> })}
            </p>
          ))}
      </div>
      {mayWrite(conv) && <ReplyField store={store} conv={conv} root={root} />}
    </aside>
  );
}

const threadOf = (threads: Threads, root: Seq): number =>
  threads.list.find(({ s }) => s === root)?.replies ?? 0;

function ReplyRow(props: { rec: Rec; store: Store }) {
  const { rec, store } = props;
  return (
    <div class="thread-msg" data-reply={rec.s}>
      <Avatar name={rec.from} small />
      <div>
        <b>{rec.from === store.me ? "You" : rec.from}</b>{" "}
        <time title={momentOf(rec.ts)}>{timeOf(rec.ts)}</time>
        {rec.edited !== undefined && <span class="hint"> edited</span>}
        <p class="text">
          <Linked text={textOf(rec)} mentions={rec.mentions} me={store.me} />
        </p>
      </div>
    </div>
  );
}

function ReplyField(props: { store: Store; conv: Conv; root: Seq }) {
  const { store, conv, root } = props;
  const [text, setText] = useState("");
  const send = (event: Event): void => {
    event.preventDefault();
    if (text.trim() === "") return;
    store.send(conv, text.trimEnd(), { thread: root });
    setText("");
  };
  return (
    <form class="add" onSubmit={send}>
      <input
        value={text}
        placeholder="Reply in the thread"
        aria-label="Reply in the thread"
        autocomplete="off"
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button type="submit" class="primary" disabled={text.trim() === ""}>
        Reply
      </button>
    </form>
  );
}
