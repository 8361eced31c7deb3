/** The conversation list: rows of one height, so that a long list needs few of them in the DOM. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Conv } from "../sdk/index.ts";
import { isHole } from "../sdk/index.ts";
import { Avatar, Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import { count, plural, previewOf, shortTime, titleOf } from "./words.ts";

/** As in chat.css. */
const ROW_PX = 68;
const OVERSCAN_ROWS = 6;

interface Props {
  store: Store;
  onOpen: (c: string) => void;
  onNew: () => void;
}

export function Sidebar({ store, onOpen, onNew }: Props) {
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLowerCase();
  const all = store.list();
  const shown = wanted
    ? all.filter((conv) => titleOf(conv).toLowerCase().includes(wanted))
    : all;
  return (
    <nav class="sidebar" aria-label="Conversations">
      <header>
        <Avatar name={store.me} small />
        <strong title={store.me}>{store.me}</strong>
        <button type="button" class="new" onClick={onNew}>
          <Icon name="add" />
          <span>New chat</span>
        </button>
      </header>
      <label class="filter">
        <Icon name="search" />
        <input
          type="search"
          placeholder="Find a conversation"
          aria-label="Find a conversation"
          value={filter}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
      </label>
      {store.loaded && shown.length === 0 ? (
        <p class="nothing">
          {wanted ? "No conversation of that name." : "No conversations yet."}
        </p>
      ) : (
        <List store={store} convs={shown} onOpen={onOpen} />
      )}
    </nav>
  );
}

function List(props: { store: Store; convs: Conv[]; onOpen: (c: string) => void }) {
  const { store, convs, onOpen } = props;
  const list = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 1000 });
  useEffect(() => {
    const element = list.current!;
    const look = (): void => setView({ top: element.scrollTop, height: element.clientHeight });
    const resize = new ResizeObserver(look);
    resize.observe(element);
    element.addEventListener("scroll", look);
    return () => resize.disconnect();
  }, []);
  const first = Math.max(0, Math.floor(view.top / ROW_PX) - OVERSCAN_ROWS);
  const end = Math.min(
    convs.length,
    Math.ceil((view.top + view.height) / ROW_PX) + OVERSCAN_ROWS,
  );
  return (
    <div class="convs" ref={list}>
      <ul style={{ height: `${convs.length * ROW_PX}px` }}>
        {convs.slice(first, end).map((conv, i) => (
          <li
            key={conv.c}
            aria-setsize={convs.length}
            aria-posinset={first + i + 1}
            style={{ transform: `translateY(${(first + i) * ROW_PX}px)` }}
          >
            <ConvRow conv={conv} store={store} onOpen={onOpen} />
          </li>
        ))}
      </ul>
    </div>
  );
}

function ConvRow(props: { conv: Conv; store: Store; onOpen: (c: string) => void }) {
  const { conv, store, onOpen } = props;
  const title = titleOf(conv);
  const waiting = store.queue.some((entry) => entry.c === conv.c && !entry.error);
  const current = store.current === conv.c;
  const last = conv.last && !isHole(conv.last) ? conv.last : null;
  return (
    <button
      type="button"
      class={`conv${current ? " current" : ""}${conv.unread > 0 ? " unread" : ""}`}
      aria-current={current ? "true" : undefined}
      data-conv={conv.c}
      onClick={() => onOpen(conv.c)}
    >
      <Avatar name={title} group={conv.kind === "group"} />
      <span class="title">{title}</span>
      {last && <time class="when">{shortTime(last.ts)}</time>}
      <span class="preview">{previewOf(conv, store.me)}</span>
      {waiting ? (
        <span class="tick pending" role="img" aria-label="Waiting to be sent">
          <Icon name="clock" />
        </span>
      ) : (
        conv.unread > 0 && (
          <span class="badge" aria-label={plural(conv.unread, "unread message")}>
            {conv.unread > 999 ? "999+" : count(conv.unread)}
          </span>
        )
      )}
    </button>
  );
}
