/** Messages on their way, below the newest one; refused ones wait for a decision. */

import { useEffect, useRef } from "preact/hooks";
import type { ConvId, Entry, Seq } from "../sdk/index.ts";
import { Icon, Linked } from "./parts.tsx";
import type { Store } from "./store.ts";
import { textOf, timeOf } from "./words.ts";

export function Pending(props: {
  store: Store;
  c: ConvId;
  /** Only what goes into this thread. */
  thread?: Seq;
  onGrow: () => void;
}) {
  const entries = props.store.pending(props.c, props.thread);
  const newest = entries.at(-1)?.cid;
  const known = useRef(newest);
  useEffect(() => {
    if (newest !== undefined && newest !== known.current) props.onGrow();
    known.current = newest;
  }, [newest]);
  return (
    <div class="outbox">
      {entries.map((entry) => (
        <PendingRow key={entry.cid} entry={entry} store={props.store} />
      ))}
    </div>
  );
}

function PendingRow(props: { entry: Entry; store: Store }) {
  const { entry, store } = props;
  const fields = entry.fields as {
    kind: string;
    body?: Record<string, unknown>;
    mentions?: string[];
  };
  return (
    <div class={`msg own ends ${entry.error ? "refused" : "waiting"}`} data-cid={entry.cid}>
      <div class="bubble">
        <span class="text">
          <Linked text={textOf(fields)} mentions={fields.mentions} me={store.me} />
        </span>
        <span class="meta">
          <time>{timeOf(entry.at)}</time>
          <span
            class="tick pending"
            role="img"
            aria-label={entry.error ? "not sent" : "pending"}
          >
            <Icon name={entry.error ? "warn" : "clock"} />
          </span>
        </span>
      </div>
      {entry.error && (
        <div class="refusal" role="alert">
          Not sent: {entry.error.msg ?? entry.error.code}
          <button type="button" onClick={() => store.client.retry(entry.cid)}>
            Try again
          </button>
          <button type="button" onClick={() => store.client.discard(entry.cid)}>
            Discard
          </button>
        </div>
      )}
    </div>
  );
}
