/** What can be done with a conversation in the list: pin, mute, put into the archive. */

import { useLayoutEffect, useRef } from "preact/hooks";
import { MUTED_FOR_EVER, type Conv, type Prefs } from "../sdk/index.ts";
import { isMuted } from "./listing.ts";
import { Icon, type IconName } from "./parts.tsx";
import type { Store } from "./store.ts";
import { momentOf, titleOf } from "./words.ts";

const HOUR_MS = 3_600_000;
const SPANS: [string, number][] = [
  ["Mute for 1 hour", HOUR_MS],
  ["Mute for 8 hours", 8 * HOUR_MS],
  ["Mute for a week", 7 * 24 * HOUR_MS],
  ["Mute for ever", Infinity],
];
/** Between the menu and the edges of the window. */
const GAP_PX = 8;

interface Choice {
  label: string;
  icon?: IconName;
  title?: string;
  prefs?: Prefs;
  /** Instead of `prefs`. */
  act?: () => void;
}

function choicesOf(store: Store, conv: Conv): Choice[][] {
  const { now } = store;
  const user = conv.kind === "direct" && conv.with !== store.me ? conv.with : null;
  const on = !store.blocks.has(user);
  const block: Choice[] = user
    ? [{ label: on ? "Block" : "Unblock", icon: "block", act: () => store.block(user, on) }]
    : [];
  const until = conv.muted_until ?? 0;
  const pin: Choice = conv.pinned
    ? { label: "Unpin", icon: "pin", prefs: { pinned: false } }
    : { label: "Pin to the top", icon: "pin", prefs: { pinned: true } };
  const hide: Choice = conv.hidden
    ? { label: "Back to the list", icon: "unarchive", prefs: { hidden: false } }
    : { label: "Archive", icon: "archive", prefs: { hidden: true } };
  const mute = SPANS.map(([label, ms], i): Choice => {
    const end = ms === Infinity ? MUTED_FOR_EVER : Math.round(now + ms);
    return { label, prefs: { muted_until: end }, ...(i === 0 && { icon: "mute" }) };
  });
  const unmute: Choice = {
    label: "Unmute",
    icon: "bell",
    title: until >= MUTED_FOR_EVER ? "Muted for ever" : `Muted until ${momentOf(until)}`,
    prefs: { muted_until: null },
  };
  return [[pin], isMuted(conv, now) ? [unmute] : mute, [hide, ...block]];
}

export function ConvMenu(props: {
  store: Store;
  conv: Conv;
  /** What opened it: it gets the focus back. */
  button: HTMLElement;
  point: DOMPoint | null;
  onClose: () => void;
}) {
  const { store, conv, button, point, onClose } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const items = (): HTMLElement[] => [
    ...dialog.current!.querySelectorAll<HTMLElement>("[role=menuitem]"),
  ];
  // Before the next key is pressed: it is for the menu.
  useLayoutEffect(() => {
    const element = dialog.current!;
    element.showModal();
    place(element, button, point);
    items()[0]!.focus();
    return () => {
      element.close();
      (point ? (button.previousElementSibling as HTMLElement) : button).focus();
    };
  }, []);
  const onKeyDown = (event: KeyboardEvent): void => {
    const all = items();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to: Record<string, number> = {
      ArrowDown: (at + 1) % all.length,
      ArrowUp: (at + all.length - 1) % all.length,
      Home: 0,
      End: all.length - 1,
    };
    if (event.key === "Tab") onClose();
    else if (!(event.key in to)) return;
    else all[to[event.key]!]!.focus();
    event.preventDefault();
  };
  return (
    <dialog
      ref={dialog}
      class="menu"
      aria-label={`Options of ${titleOf(conv)}`}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => event.target === dialog.current && onClose()}
      onContextMenu={(event) => event.preventDefault()}
    >
      <div role="menu" aria-label={titleOf(conv)} onKeyDown={onKeyDown}>
        {choicesOf(store, conv).map((group, i) => (
          <div key={i} role="group" class="group">
            {group.map(({ label, icon, title, prefs, act }) => (
              <button
                key={label}
                type="button"
                role="menuitem"
                tabIndex={-1}
                title={title}
                onClick={() => {
                  if (prefs) store.set(conv.c, prefs);
                  act?.();
                  onClose();
                }}
              >
                {icon ? <Icon name={icon} /> : <span class="icon" />}
                {label}
              </button>
            ))}
          </div>
        ))}
      </div>
    </dialog>
  );
}

/** At the pointer, else below the button where there is room, else above it. */
function place(menu: HTMLElement, button: HTMLElement, point: DOMPoint | null): void {
  const [box, size] = [button.getBoundingClientRect(), menu.getBoundingClientRect()];
  const below = point?.y ?? box.bottom;
  const fits = below + size.height + GAP_PX <= innerHeight;
  const top = fits ? below : (point?.y ?? box.top) - size.height;
  const left = point?.x ?? box.right - size.width;
  const within = (x: number, most: number): number => Math.max(GAP_PX, Math.min(x, most));
  menu.style.left = `${within(left, innerWidth - size.width - GAP_PX)}px`;
  menu.style.top = `${within(top, innerHeight - size.height - GAP_PX)}px`;
}
