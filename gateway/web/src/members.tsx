/** Who is in a group: adding, removing, roles, leaving. Or who was in it when a message came. */

import { useEffect, useState } from "preact/hooks";
import type { Conv, Member, Presence, Rec } from "../sdk/index.ts";
import { explain } from "./dialogs.tsx";
import { useObserved } from "./observe.ts";
import { Panel } from "./panel.tsx";
import { Avatar, Icon } from "./parts.tsx";
import { Face } from "./presence.tsx";
import type { Store } from "./store.ts";
import { dateOf, isUser, plural, presenceOf, textOf, titleOf } from "./words.ts";

const RANK: Record<string, number> = { owner: 3, admin: 2, member: 1 };
/** Pages read at once; the rest on demand. */
const PAGES = 5;

interface Props {
  store: Store;
  conv: Conv;
  /** Who was there right after it, as it was; null: who is there now. */
  at: Rec | null;
  onNow: () => void;
  onClose: () => void;
}

export function Members({ store, conv, at, onNow, onClose }: Props) {
  const [members, setMembers] = useState<Member[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [user, setUser] = useState("");
  const [error, setError] = useState("");
  const [leaving, setLeaving] = useState(false);
  const presences = useObserved(store.presences);

  const read = async (from: string | null, pages: number): Promise<void> => {
    const all = from === null ? [] : [...members];
    let page = from;
    for (let i = 0; i < pages; i++) {
      const reply = await store.client.members(conv.c, page ?? undefined, at?.s);
      all.push(...reply.members);
      page = reply.next ?? null;
      if (page === null) break;
    }
    setMembers(all);
    setNext(page);
  };
  const attempt = async (work: () => Promise<unknown>): Promise<void> => {
    setError("");
    try {
      await work();
      await read(null, PAGES);
    } catch (err) {
      setError(explain(err));
    }
  };
  // Roles and people change while this is open: the count and the own role tell.
  useEffect(
    () => void read(null, PAGES).catch((err) => setError(explain(err))),
    at ? [] : [conv.members, conv.role],
  );

  useEffect(
    () =>
      presences.show(
        "members",
        at ? [] : members.map(({ user }) => user),
      ),
    [members],
  );
  useEffect(() => () => presences.show("members", []), []);

  const role = members.find((m) => m.user === store.me)?.role ?? conv.role;
  const mine = at ? 0 : (RANK[role ?? ""] ?? 1);
  const sorted = members.toSorted(
    (a, b) => (RANK[b.role] ?? 0) - (RANK[a.role] ?? 0) || (a.user < b.user ? -1 : 1),
  );
  const known = next === null && members.length > 0;
  const title = !at
    ? plural(conv.members, "member")
    : known
      ? `${plural(members.length, "member")} then`
      : "Members then";
  const add = (event: Event): void => {
    event.preventDefault();
    const name = user.trim();
    if (!isUser(name)) return setError("Not a name of a user.");
    void attempt(() => store.client.member(conv.c, name, "add").then(() => setUser("")));
  };
  const leave = async (): Promise<void> => {
    try {
      await store.client.leave(conv.c);
      store.remove(conv.c);
    } catch (err) {
      setLeaving(false);
      setError(
        (err as { code?: string }).code === "conflict"
          ? "You are the only owner: make somebody else owner first."
          : explain(err),
      );
    }
  };

  return (
    <Panel label={`Members of ${titleOf(conv)}`} title={title} onClose={onClose}>
      {at && (
        <div class="then">
          <p>
            When {at.from === store.me ? "you" : at.from} wrote “
            {textOf(at).slice(0, 100)}
            ”,{" "}
            <time dateTime={new Date(at.ts).toISOString()}>{dateOf(at.ts)}</time>
          </p>
          <button type="button" onClick={onNow}>
            Now
          </button>
        </div>
      )}
      {mine >= RANK["admin"]! && (
        <form class="add" onSubmit={add}>
          <input
            value={user}
            placeholder="Add somebody"
            aria-label="Add somebody"
            autocomplete="off"
            autocapitalize="none"
            onInput={(event) => setUser(event.currentTarget.value)}
          />
          <button type="submit" class="primary" disabled={user.trim() === ""}>
            Add
          </button>
        </form>
      )}
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <ul>
        {sorted.map((member) => (
          <MemberRow
            key={member.user}
            member={member}
            presence={at ? undefined : presences.of(member.user)}
            now={store.now}
            me={store.me}
            mine={mine}
            onRole={(role) =>
              void attempt(() => store.client.member(conv.c, member.user, "role", role))
            }
            onRemove={() =>
              void attempt(() => store.client.member(conv.c, member.user, "remove"))
            }
          />
        ))}
      </ul>
      {next !== null && (
        <button type="button" onClick={() => void read(next, PAGES)}>
          More
        </button>
      )}
      {!at && (
        <footer>
          {leaving ? (
            <>
              <span>Leave this group?</span>
              <button type="button" onClick={() => setLeaving(false)}>
                Stay
              </button>
              <button type="button" class="danger" onClick={() => void leave()}>
                Leave
              </button>
            </>
          ) : (
            <button type="button" class="leave" onClick={() => setLeaving(true)}>
              <Icon name="exit" />
              Leave group
            </button>
          )}
        </footer>
      )}
    </Panel>
  );
}

function MemberRow(props: {
  member: Member;
  presence: Presence | undefined;
  now: number;
  me: string;
  mine: number;
  onRole: (role: string) => void;
  onRemove: () => void;
}) {
  const { member, presence, me, mine } = props;
  const other = member.user !== me;
  const rank = RANK[member.role] ?? 1;
  return (
    <li>
      <Face presence={presence}>
        <Avatar name={member.user} small />
      </Face>
      <span class="who">
        {other ? member.user : `${member.user} (you)`}
        {presence && <span class="seen">{presenceOf(presence, props.now)}</span>}
      </span>
      {other && mine === RANK["owner"] ? (
        <select
          aria-label={`Role of ${member.user}`}
          value={member.role}
          onChange={(event) => props.onRole(event.currentTarget.value)}
        >
          <option value="owner">owner</option>
          <option value="admin">admin</option>
          <option value="member">member</option>
        </select>
      ) : (
        rank > 1 && <span class="role">{member.role}</span>
      )}
      {other && mine >= RANK["admin"]! && mine >= rank && (
        <button
          type="button"
          class="round"
          aria-label={`Remove ${member.user}`}
          onClick={props.onRemove}
        >
          <Icon name="close" />
        </button>
      )}
    </li>
  );
}
