/** Starting a conversation, and deleting a message. */

import { useState } from "preact/hooks";
import { LoquatError, type Conv, type Rec } from "../sdk/index.ts";
import { Avatar, Dialog, Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import { isUser, textOf } from "./words.ts";

const HINT = "Names are up to 64 letters, digits or . _ @ -";

/** What went wrong, for people. */
export function explain(err: unknown): string {
  const error = LoquatError.from(err);
  if (error.code === "closed" || error.code === "timeout")
    return "There is no connection. Try again when you are back online.";
  if (error.code === "forbidden") return "You may not do that here.";
  if (error.code === "not_found") return "There is nobody or nothing of that name.";
  return error.message;
}

export function NewChat(props: {
  store: Store;
  onClose: () => void;
  onOpened: (conv: Conv) => void;
}) {
  const [group, setGroup] = useState(false);
  const [user, setUser] = useState("");
  const [name, setName] = useState("");
  const [members, setMembers] = useState<string[]>([]);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);

  const add = (): string[] | null => {
    const words = user.split(/[\s,;]+/).filter(Boolean);
    const bad = words.find((word) => !isUser(word));
    if (bad !== undefined) {
      setError(`“${bad}” is not a name. ${HINT}`);
      return null;
    }
    const all = [...new Set([...members, ...words])].filter((word) => word !== props.store.me);
    setMembers(all);
    setUser("");
    setError("");
    return all;
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const all = group ? add() : [];
    if (all === null) return;
    if (!group && !isUser(user.trim())) return setError(HINT);
    if (group && name.trim() === "") return setError("A group needs a name.");
    setBusy(true);
    try {
      const conv = await props.store.client.open(
        group
          ? { kind: "group", name: name.trim(), members: all, history: "all" }
          : { kind: "direct", with: user.trim() },
      );
      props.onOpened(conv);
    } catch (err) {
      setError(explain(err));
      setBusy(false);
    }
  };

  return (
    <Dialog title="New chat" onClose={props.onClose}>
      <form onSubmit={submit}>
        <div class="choice" role="radiogroup" aria-label="Kind">
          <button
            type="button"
            role="radio"
            aria-checked={!group}
            onClick={() => setGroup(false)}
          >
            One person
          </button>
          <button
            type="button"
            role="radio"
            aria-checked={group}
            onClick={() => setGroup(true)}
          >
            A group
          </button>
        </div>
        {group && (
          <label>
            Name of the group
            <input
              name="name"
              value={name}
              maxLength={100}
              onInput={(e) => setName(e.currentTarget.value)}
            />
          </label>
        )}
        <label>
          {group ? "People" : "With whom"}
          <input
            name="user"
            value={user}
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            placeholder={group ? "Names, then Enter" : "Name"}
            onInput={(e) => setUser(e.currentTarget.value)}
            onKeyDown={(e) => {
              if (!group || (e.key !== "Enter" && e.key !== ",") || user.trim() === "") return;
              e.preventDefault();
              add();
            }}
          />
        </label>
        {group && members.length > 0 && (
          <ul class="chips">
            {members.map((member) => (
              <li key={member}>
                <Avatar name={member} small />
                {member}
                <button
                  type="button"
                  aria-label={`Without ${member}`}
                  onClick={() => setMembers(members.filter((other) => other !== member))}
                >
                  <Icon name="close" />
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
        <footer>
          <button type="submit" class="primary" disabled={busy}>
            {group ? "Create group" : "Start chat"}
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

export function DeleteMessage(props: {
  rec: Rec;
  store: Store;
  /** Else it goes for this user only. */
  forAll: boolean;
  onClose: () => void;
}) {
  const { rec, store, forAll, onClose } = props;
  return (
    <Dialog title="Delete this message?" onClose={onClose}>
      <blockquote>{textOf(rec).slice(0, 300)}</blockquote>
      <footer>
        <button type="button" onClick={onClose}>
          Keep it
        </button>
        <button
          type="button"
          class={forAll ? undefined : "danger"}
          onClick={() => {
            store.client.hide(rec.c, rec.s);
            onClose();
          }}
        >
          Delete for me
        </button>
        {forAll && (
          <button
            type="button"
            class="danger"
            onClick={() => {
              store.client.delete(rec.c, rec.s);
              onClose();
            }}
          >
            Delete for everyone
          </button>
        )}
      </footer>
    </Dialog>
  );
}
