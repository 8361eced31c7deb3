/** Who has read a message, in groups of any size. */

import { useEffect, useState } from "preact/hooks";
import type { Rec } from "../sdk/index.ts";
import { explain } from "./dialogs.tsx";
import { Avatar, Dialog } from "./parts.tsx";
import type { Store } from "./store.ts";
import { plural, textOf } from "./words.ts";

export function ReadBy(props: {
  store: Store;
  rec: Rec;
  /** Shows who was a member when it was written. */
  onMembers: () => void;
  onClose: () => void;
}) {
  const { store, rec, onClose } = props;
  const [users, setUsers] = useState<string[] | null>(null);
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState("");

  const read = async (page?: string): Promise<void> => {
    try {
      const seen = await store.client.seen(rec.c, rec.s, page);
      setUsers([...(page ? (users ?? []) : []), ...seen.users]);
      setNext(seen.next);
      setError("");
    } catch (err) {
      setError(explain(err));
    }
  };
  useEffect(() => void read(), [rec.s]);
  // Others read on while this is open; once there are several pages it stays as it is.
  useEffect(() => {
    if (next !== null) return;
    const again = ({ c }: { c: string }): void => void (c === rec.c && read());
    const off = [store.client.on("mark", again), store.client.on("seen", again)];
    return () => off.forEach((each) => each());
  }, [rec.s, next]);

  // Its author has no need to, and who looks knows.
  const others = users?.filter((user) => user !== rec.from && user !== store.me) ?? [];
  const more = next === null ? "" : " or more";
  return (
    <Dialog title="Read by" onClose={onClose}>
      <blockquote>{textOf(rec).slice(0, 300)}</blockquote>
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {users && (
        <p class="hint" role="status">
          {others.length === 0 && next === null
            ? "Nobody else yet."
            : `${plural(others.length, "person", "people")}${more}`}
        </p>
      )}
      <ul class="readers" aria-label="Read by">
        {others.map((user) => (
          <li key={user}>
            <Avatar name={user} small />
            {user}
          </li>
        ))}
      </ul>
      <footer>
        {next !== null && (
          <button type="button" onClick={() => void read(next)}>
            More
          </button>
        )}
        <button type="button" onClick={props.onMembers}>
          Who was here
        </button>
      </footer>
    </Dialog>
  );
}
