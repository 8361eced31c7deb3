/** Who writes just now, below the messages; the line is there always, so that nothing moves. */

import type { Conv } from "../sdk/index.ts";
import { useObserved } from "./observe.ts";
import type { Store } from "./store.ts";
import { typingOf } from "./words.ts";

export function TypingLine(props: { store: Store; conv: Conv }) {
  const users = useObserved(props.store.typists).of(props.conv.c);
  return (
    <div class="typing">
      {users.length > 0 && (
        <>
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          <span class="who">{typingOf(users)}</span>
        </>
      )}
    </div>
  );
}
