/** The settings of a conversation: those who run it change them, the others read them. */

import { useState } from "preact/hooks";
import type { Conv, History, Settings } from "../sdk/index.ts";
import { explain } from "./dialogs.tsx";
import { Invites } from "./invites.tsx";
import { Dialog } from "./parts.tsx";
import type { Store } from "./store.ts";
import { languageOf, spanOf } from "./words.ts";

const HOUR = 3600;
const TTLS = [HOUR, 8 * HOUR, 24 * HOUR, 7 * 24 * HOUR, 28 * 24 * HOUR];
/** The server's bounds are in bytes. */
const NAME_MAX = 100;
const TOPIC_MAX = 300;
/** Those that the server knows the forms of words of. */
const LANGUAGES =
  "ar ca da de el en es eu fi fr ga hu id it lt nl no pt ro ru sr sv tr".split(" ");

export function maySet(conv: Conv): boolean {
  return conv.kind === "direct" || conv.role === "owner" || conv.role === "admin";
}

export function SettingsDialog(props: { store: Store; conv: Conv; onClose: () => void }) {
  const { store, conv, onClose } = props;
  const group = conv.kind === "group";
  // What was changed here; anything else follows the conversation.
  const [changed, setChanged] = useState<Settings>({});
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const now = { ...conv, ...changed };
  const ttl = now.ttl ?? 0;
  const set = (settings: Settings): void => {
    setChanged({ ...changed, ...settings });
    setError("");
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const news = difference(conv, changed);
    if (news.name === "") return setError("A group needs a name.");
    if (Object.keys(news).length === 0) return onClose();
    setBusy(true);
    try {
      await store.client.meta(conv.c, news);
      onClose();
    } catch (err) {
      setError(explain(err));
      setBusy(false);
    }
  };
  return (
    <Dialog title={group ? "Group settings" : "Chat settings"} onClose={onClose}>
      <form class="settings" onSubmit={submit}>
        <fieldset disabled={!maySet(conv)}>
          {group && (
            <>
              <label>
                Name
                <input
                  name="name"
                  value={now.name ?? ""}
                  maxLength={NAME_MAX}
                  onInput={(event) => set({ name: event.currentTarget.value })}
                />
              </label>
              <label>
                Topic
                <input
                  name="topic"
                  value={now.topic ?? ""}
                  maxLength={TOPIC_MAX}
                  placeholder="What this group is about"
                  onInput={(event) => set({ topic: event.currentTarget.value })}
                />
              </label>
            </>
          )}
          <label>
            New messages
            <select
              name="ttl"
              value={ttl}
              onChange={(event) => set({ ttl: Number(event.currentTarget.value) })}
            >
              <option value={0}>stay for good</option>
              {[...new Set([...TTLS, ttl])]
                .filter((each) => each > 0)
                .sort((a, b) => a - b)
                .map((each) => (
                  <option key={each} value={each}>
                    disappear after {spanOf(each)}
                  </option>
                ))}
            </select>
          </label>
          {group && (
            <>
              <label>
                New members read
                <select
                  name="history"
                  value={now.history ?? "all"}
                  onChange={(event) => set({ history: event.currentTarget.value as History })}
                >
                  <option value="all">everything</option>
                  <option value="joined">only what comes after they join</option>
                </select>
              </label>
              <label class="check">
                <input
                  name="announce"
                  type="checkbox"
                  checked={now.announce ?? false}
                  onChange={(event) => set({ announce: event.currentTarget.checked })}
                />
                Only owners and admins write
              </label>
            </>
          )}
          <label>
            Language, for search
            <select
              name="lang"
              value={now.lang ?? ""}
              onChange={(event) => set({ lang: event.currentTarget.value })}
            >
              <option value="">not set</option>
              {[...new Set([...LANGUAGES, ...(now.lang ? [now.lang] : [])])]
                .map((code) => ({ code, name: languageOf(code) }))
                .sort((a, b) => a.name.localeCompare(b.name))
                .map(({ code, name }) => (
                  <option key={code} value={code}>
                    {name}
                  </option>
                ))}
            </select>
          </label>
          <label class="check">
            <input
              name="searchable"
              type="checkbox"
              checked={now.searchable ?? true}
              onChange={(event) => set({ searchable: event.currentTarget.checked })}
            />
            Messages can be searched
          </label>
        </fieldset>
        {error && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        {maySet(conv) ? (
          <footer>
            <button type="button" onClick={onClose}>
              Cancel
            </button>
            <button type="submit" class="primary" disabled={busy}>
              Save
            </button>
          </footer>
        ) : (
          <p class="hint">Only owners and admins change these.</p>
        )}
      </form>
      {group && maySet(conv) && <Invites store={store} conv={conv} />}
    </Dialog>
  );
}

/** What would be other than it is, as the server takes it. */
function difference(conv: Conv, changed: Settings): Settings {
  const out: Settings = {};
  const { name, topic, ttl, history, announce, lang, searchable } = changed;
  if (name !== undefined && name.trim() !== conv.name) out.name = name.trim();
  if (topic !== undefined && (topic ?? "").trim() !== (conv.topic ?? ""))
    out.topic = topic?.trim() || null;
  if (ttl !== undefined && (ttl ?? 0) !== (conv.ttl ?? 0)) out.ttl = ttl || null;
  if (history !== undefined && history !== (conv.history ?? "all")) out.history = history;
  if (announce !== undefined && announce !== (conv.announce ?? false)) out.announce = announce;
  if (lang !== undefined && (lang ?? "") !== (conv.lang ?? "")) out.lang = lang || null;
  if (searchable !== undefined && searchable !== (conv.searchable ?? true))
    out.searchable = searchable;
  return out;
}
