/** Who is there, beside a picture and in words. */

import type { ComponentChildren } from "preact";
import { useEffect, useReducer } from "preact/hooks";
import type { Presence } from "../sdk/index.ts";
import { useObserved } from "./observe.ts";
import type { Store } from "./store.ts";
import { presenceOf } from "./words.ts";

/** "5 minutes ago" holds for about so long. */
const AGAIN_MS = 30_000;

/** A picture with a mark: full is online, a ring is away. */
export function Face(props: { presence: Presence | undefined; children: ComponentChildren }) {
  const { presence } = props;
  const there = presence && presence.state !== "offline";
  return (
    <span class="face">
      {props.children}
      {there && (
        <span
          class={`presence ${presence.state}`}
          role="img"
          aria-label={presence.state}
          title={presence.state}
        />
      )}
    </span>
  );
}

/** What is known of a user, or else `otherwise`. */
export function PresenceLine(props: { store: Store; user: string; otherwise: string }) {
  const { store, user } = props;
  const presence = useObserved(store.presences).of(user);
  const [, draw] = useReducer<number, void>((n) => n + 1, 0);
  useEffect(() => {
    store.presences.show("header", [user]);
    return () => store.presences.show("header", []);
  }, [user]);
  useEffect(() => {
    if (!presence?.last_seen) return;
    const timer = setInterval(() => draw(), AGAIN_MS);
    return () => clearInterval(timer);
  }, [presence]);
  return <>{presence ? presenceOf(presence, store.now) : props.otherwise}</>;
}
