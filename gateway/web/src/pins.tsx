/** Pinned messages: the newest one above the conversation, all of them in a dialog. */

import { useState } from "preact/hooks";
import { isHole, type Conv, type Rec, type Seq } from "../sdk/index.ts";
import { useObserved } from "./observe.ts";
import { Dialog, Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import type { Timeline } from "./timeline.ts";
import { plural, shortTime, textOf } from "./words.ts";

/** In a group those who run it, else either. */
export function mayPin(conv: Conv): boolean {
  return conv.kind === "direct" || conv.role === "owner" || conv.role === "admin";
}

interface Props {
  store: Store;
  conv: Conv;
  timeline: Timeline;
  onJump: (s: Seq) => void;
}

export function Pins(props: Props) {
  const { conv } = props;
  const timeline = useObserved(props.timeline);
  const [open, setOpen] = useState(false);
  // Newest first; what is gone (or not there yet) is left out.
  const pins = (conv.pins ?? []).toReversed().filter((s) => timeline.quote(s) !== null);
  const recs = pins.flatMap((s) => {
    const item = timeline.quote(s);
    return item && !isHole(item) ? [item] : [];
  });
  const newest = recs[0];
  if (!newest) return null;
  return (
    <div class="pins">
      <Icon name="pin" />
      <button type="button" class="newest" onClick={() => props.onJump(newest.s)}>
        <b>Pinned message</b>
        <span>{textOf(newest).slice(0, 200)}</span>
      </button>
      {recs.length > 1 && (
        <button
          type="button"
          class="all"
          aria-label={`All ${plural(recs.length, "pinned message")}`}
          onClick={() => setOpen(true)}
        >
          All {recs.length}
        </button>
      )}
      {open && <PinList {...props} recs={recs} onClose={() => setOpen(false)} />}
    </div>
  );
}

function PinList(props: Props & { recs: Rec[]; onClose: () => void }) {
  const { store, conv, recs, onClose } = props;
  return (
    <Dialog title={plural(recs.length, "pinned message")} onClose={onClose}>
      <ul class="pin-list">
        {recs.map((rec) => (
          <li key={rec.s}>
            <button
              type="button"
              class="to-pin"
              onClick={() => {
                onClose();
                props.onJump(rec.s);
              }}
            >
              <b>{rec.from === store.me ? "You" : rec.from}</b>
              <time>{shortTime(rec.ts)}</time>
              <span>{textOf(rec).slice(0, 300)}</span>
            </button>
            {mayPin(conv) && (
              <button
                type="button"
                class="round"
                title="Unpin"
                aria-label={`Unpin: ${textOf(rec).slice(0, 60)}`}
                onClick={() => store.client.pin(conv.c, rec.s, false)}
              >
                <Icon name="close" />
              </button>
            )}
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
