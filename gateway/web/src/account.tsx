/** What a user sets for all conversations: who knows that somebody is there, and who is blocked. */

import { useEffect, useState } from "preact/hooks";
import type { Privacy } from "../sdk/index.ts";
import { explain } from "./dialogs.tsx";
import { useObserved } from "./observe.ts";
import { Avatar, Dialog } from "./parts.tsx";
import type { Store } from "./store.ts";

export function Account(props: { store: Store; onClose: () => void }) {
  const { store, onClose } = props;
  const blocked = useObserved(store.blocks).list();
  const [privacy, setPrivacy] = useState<Privacy | null>(null);
  const [error, setError] = useState("");
  const attempt = (work: Promise<unknown>): void => {
    setError("");
    work.catch((err: unknown) => setError(explain(err)));
  };
  const set = (wanted?: Privacy): void =>
    attempt(store.client.privacy(wanted).then((now) => setPrivacy(now)));
  useEffect(() => set(), []);
  return (
    <Dialog title="Your settings" onClose={onClose}>
      <div class="account">
        <label class="check">
          <input
            name="presence"
            type="checkbox"
            checked={privacy === "shared"}
            disabled={privacy === null}
            onChange={(event) => set(event.currentTarget.checked ? "shared" : "hidden")}
          />
          Others see when I am there
        </label>
        <h3>Blocked</h3>
        {blocked.length === 0 ? (
          <p class="hint">Nobody is blocked.</p>
        ) : (
          <ul class="readers" aria-label="Blocked">
            {blocked.map(({ user }) => (
              <li key={user}>
                <Avatar name={user} small />
                <span class="who">{user}</span>
                <button
                  type="button"
                  aria-label={`Unblock ${user}`}
                  onClick={() => attempt(store.client.block(user, false))}
                >
                  Unblock
                </button>
              </li>
            ))}
          </ul>
        )}
        {error && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
      </div>
    </Dialog>
  );
}
