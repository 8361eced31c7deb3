/** Links that let people into a group: made, listed and taken back by those who run it; used. */

import { useEffect, useState } from "preact/hooks";
import { LoquatError, type Conv, type OwnInvite } from "../sdk/index.ts";
import { explain } from "./dialogs.tsx";
import { Dialog, Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import { count, dateOf } from "./words.ts";

const DAY = 86_400;
const SPANS: [string, number][] = [
  ["1 day", DAY],
  ["1 week", 7 * DAY],
  ["4 weeks", 28 * DAY],
];
const USES: [string, number][] = [
  ["any number of people", 0],
  ["1 person", 1],
  ["10 people", 10],
  ["100 people", 100],
];

const linkOf = (code: string): string => `${location.origin}/?join=${encodeURIComponent(code)}`;

/** Takes an invite out of the address; null when there is none. */
export function inviteFromAddress(): string | null {
  const url = new URL(location.href);
  const code = url.searchParams.get("join");
  if (code === null) return null;
  url.searchParams.delete("join");
  history.replaceState(null, "", url);
  return code || null;
}

export function Invites(props: { store: Store; conv: Conv }) {
  const { store, conv } = props;
  const [invites, setInvites] = useState<OwnInvite[]>([]);
  const [span, setSpan] = useState(7 * DAY);
  const [uses, setUses] = useState(0);
  const [error, setError] = useState("");
  const attempt = async (work?: () => Promise<unknown>): Promise<void> => {
    setError("");
    try {
      await work?.();
      setInvites((await store.client.invites(conv.c)).toReversed());
    } catch (err) {
      setError(explain(err));
    }
  };
  // Others make and use them, too: the number of members tells.
  useEffect(() => void attempt(), [conv.c, conv.members]);
  const make = (): void => {
    const bound = { expires_s: span, ...(uses > 0 && { uses }) };
    void attempt(() => store.client.invite(conv.c, bound));
  };
  return (
    <section class="invites" aria-label="Invite links">
      <h3>Invite links</h3>
      <div class="new-invite">
        <select
          aria-label="Works for"
          value={uses}
          onChange={(event) => setUses(Number(event.currentTarget.value))}
        >
          {USES.map(([name, n]) => (
            <option key={n} value={n}>
              {name}
            </option>
          ))}
        </select>
        <select
          aria-label="Works until"
          value={span}
          onChange={(event) => setSpan(Number(event.currentTarget.value))}
        >
          {SPANS.map(([name, n]) => (
            <option key={n} value={n}>
              for {name}
            </option>
          ))}
        </select>
        <button type="button" onClick={make}>
          New link
        </button>
      </div>
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <ul>
        {invites.map((invite) => (
          <InviteRow
            key={invite.s}
            invite={invite}
            onCopied={() => store.tell("The link is copied.")}
            onRevoke={() => void attempt(() => store.client.uninvite(conv.c, invite.s))}
          />
        ))}
      </ul>
    </section>
  );
}

function InviteRow(props: { invite: OwnInvite; onCopied: () => void; onRevoke: () => void }) {
  const { invite } = props;
  const link = linkOf(invite.code);
  const used = invite.uses === null ? count(invite.used) : `${invite.used} of ${invite.uses}`;
  const copy = (): void =>
    void navigator.clipboard?.writeText(link).then(props.onCopied, () => undefined);
  return (
    <li>
      <input
        readOnly
        aria-label={`Link by ${invite.by}`}
        value={link}
        onFocus={(event) => event.currentTarget.select()}
      />
      <button type="button" onClick={copy}>
        Copy
      </button>
      <button
        type="button"
        class="round"
        title="Take it back"
        aria-label="Take the link back"
        onClick={props.onRevoke}
      >
        <Icon name="close" />
      </button>
      <span class="hint">
        used {used}, works until {dateOf(invite.expires)}
      </span>
    </li>
  );
}

/** Somebody came by a link. */
export function JoinGroup(props: {
  store: Store;
  code: string;
  onClose: () => void;
  onJoined: (conv: Conv) => void;
}) {
  const { store, code, onClose, onJoined } = props;
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const join = async (): Promise<void> => {
    setBusy(true);
    try {
      onJoined(await store.client.join(code));
    } catch (err) {
      setError(refusal(err));
      setBusy(false);
    }
  };
  return (
    <Dialog title="Join the group?" onClose={onClose}>
      <p>You were invited to a group. Its members will see that you joined.</p>
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <footer>
        <button type="button" onClick={onClose}>
          Not now
        </button>
        <button type="button" class="primary" disabled={busy} onClick={() => void join()}>
          Join
        </button>
      </footer>
    </Dialog>
  );
}

function refusal(err: unknown): string {
  const { code } = LoquatError.from(err);
  if (code === "not_found") return "This invite does not work, or works no more.";
  if (code === "forbidden") return "You were removed from this group: somebody has to add you.";
  return explain(err);
}
