/** One conversation in the list. */

import type { Conv } from "../sdk/index.ts";
import { isHole } from "../sdk/index.ts";
import { isMuted } from "./listing.ts";
import { Avatar, Icon } from "./parts.tsx";
import { Face } from "./presence.tsx";
import type { Store } from "./store.ts";
import { count, plural, previewOf, shortTime, titleOf } from "./words.ts";

export interface RowProps {
  conv: Conv;
  store: Store;
  onOpen: (c: string) => void;
  /** Where the menu is asked for, by a mouse at `point` or else by its button. */
  onMenu: (conv: Conv, button: HTMLElement, point: DOMPoint | null) => void;
}

export function ConvRow(props: RowProps) {
  const { conv, store, onOpen, onMenu } = props;
  const title = titleOf(conv);
  const current = store.current === conv.c;
  const muted = isMuted(conv, store.now);
  const last = conv.last && !isHole(conv.last) ? conv.last : null;
  const loud = conv.unread > 0 && !muted;
  return (
    <>
      <button
        type="button"
        class={`conv${current ? " current" : ""}${loud ? " unread" : ""}`}
        aria-current={current ? "true" : undefined}
        data-conv={conv.c}
        onClick={() => onOpen(conv.c)}
        onContextMenu={(event) => {
          event.preventDefault();
          const button = event.currentTarget.nextElementSibling as HTMLElement;
          onMenu(conv, button, new DOMPoint(event.clientX, event.clientY));
        }}
      >
        <Face presence={conv.kind === "direct" ? store.presences.of(conv.with) : undefined}>
          <Avatar name={title} group={conv.kind === "group"} />
        </Face>
        <span class="head">
          <span class="title">{title}</span>
          {muted && <Mark name="mute" label="Muted" />}
        </span>
        {last && <time class="when">{shortTime(last.ts)}</time>}
        <Preview conv={conv} store={store} />
        <Marks conv={conv} store={store} muted={muted} />
      </button>
      <button
        type="button"
        class="round more"
        aria-label={`Options of ${title}`}
        aria-haspopup="menu"
        onClick={(event) => onMenu(conv, event.currentTarget, null)}
      >
        <Icon name="more" />
      </button>
    </>
  );
}

/** What was begun here or on another device, else the newest message. */
function Preview({ conv, store }: { conv: Conv; store: Store }) {
  const draft = store.current === conv.c ? "" : store.drafts.of(conv.c).trim();
  if (draft === "") return <span class="preview">{previewOf(conv, store.me)}</span>;
  return (
    <span class="preview">
      <b class="draft">Draft:</b> {draft.slice(0, 200)}
    </span>
  );
}

function Marks({ conv, store, muted }: { conv: Conv; store: Store; muted: boolean }) {
  const waiting = store.queue.some((entry) => entry.c === conv.c && !entry.error);
  const mentions = conv.mentions ?? 0;
  return (
    <span class="marks">
      {waiting ? (
        <span class="tick pending" role="img" aria-label="Waiting to be sent">
          <Icon name="clock" />
        </span>
      ) : (
        <>
          {mentions > 0 && (
            <span class="mention" role="img" aria-label={plural(mentions, "mention")}>
              @{few(mentions)}
            </span>
          )}
          {conv.unread > 0 && (
            <span
              class={`badge${muted ? " quiet" : ""}`}
              aria-label={plural(conv.unread, "unread message")}
            >
              {few(conv.unread)}
            </span>
          )}
        </>
      )}
      {conv.pinned && <Mark name="pin" label="Pinned to the top" />}
    </span>
  );
}

function Mark(props: { name: "mute" | "pin"; label: string }) {
  return (
    <span class={`mark ${props.name}`} role="img" aria-label={props.label} title={props.label}>
      <Icon name={props.name} />
    </span>
  );
}

const few = (n: number): string => (n > 999 ? "999+" : count(n));
