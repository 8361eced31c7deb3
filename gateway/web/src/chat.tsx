/** The page of somebody who is in: list, conversation, banner. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { isMessage, type Conv, type ConvId, type Rec, type Seq } from "../sdk/index.ts";
import { Composer, type Mode } from "./composer.tsx";
import { DeleteMessage, NewChat } from "./dialogs.tsx";
import type { FoundHit } from "./finder.ts";
import { JoinGroup } from "./invites.tsx";
import { Members } from "./members.tsx";
import { Messages } from "./messages.tsx";
import { useObserved } from "./observe.ts";
import { Avatar, Icon } from "./parts.tsx";
import { PresenceLine } from "./presence.tsx";
import { ReadBy } from "./readby.tsx";
import { Pins } from "./pins.tsx";
import { Picker } from "./reactions.tsx";
import { SettingsDialog } from "./settings.tsx";
import { Sidebar } from "./sidebar.tsx";
import type { Store } from "./store.ts";
import { ThreadList, ThreadPane } from "./thread.tsx";
import { Threads } from "./threads.ts";
import type { Timeline } from "./timeline.ts";
import { mayDelete, type RowActions } from "./tools.tsx";
import { TypingLine } from "./typing.tsx";
import { Versions } from "./versions.tsx";
import { count, plural, spanOf, titleOf } from "./words.ts";

/** As in the styles: the list and a conversation are not side by side. */
const small = matchMedia("(max-width: 720px)");
/** As in the styles: what stands beside the messages covers them. */
const narrow = matchMedia("(max-width: 1000px)");
const touch = matchMedia("(pointer: coarse)");
const ROUTE = /^#\/c\/(.+)$/;

function routed(): string | null {
  const found = ROUTE.exec(location.hash);
  try {
    return found ? decodeURIComponent(found[1]!) : null;
  } catch {
    return null;
  }
}

export function Chat(props: { store: Store; invite: string | null }) {
  const store = useObserved(props.store);
  const [starting, setStarting] = useState(false);
  const [invite, setInvite] = useState(props.invite);
  const enter = (opened: Conv): void => {
    store.add(opened);
    setStarting(false);
    setInvite(null);
    go(opened.c);
  };
  useEffect(() => {
    const follow = (): void => store.open(routed());
    follow();
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, [store]);
  useEffect(() => {
    document.title = store.unread > 0 ? `(${store.unread}) loquat` : "loquat";
  }, [store.unread]);

  const go = (c: string | null): void => {
    location.hash = c === null ? "" : `/c/${encodeURIComponent(c)}`;
    store.open(c);
  };
  const [target, setTarget] = useState<Target | null>(null);
  const lead = (hit: FoundHit): void => {
    store.finder.visit(hit);
    setTarget({ c: hit.c, s: hit.s });
    go(hit.c);
  };
  const search = (scope: ConvId | null): void => {
    if (small.matches) go(null);
    store.finder.call(scope);
  };
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (!isSearchKey(event) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      search(store.finder.scope);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [store]);
  const conv = store.current === null ? undefined : store.convs.get(store.current);
  return (
    <div class={`chat${conv ? " in-conv" : ""}`}>
      <Sidebar store={store} onOpen={go} onHit={lead} onNew={() => setStarting(true)} />
      <main>
        <Banner store={store} />
        {conv ? (
          <Conversation
            key={conv.c}
            store={store}
            conv={conv}
            target={target}
            onThere={() => setTarget(null)}
            onSearch={() => search(conv.c)}
            onBack={() => go(null)}
          />
        ) : (
          <Welcome store={store} onNew={() => setStarting(true)} />
        )}
      </main>
      {starting && (
        <NewChat store={store} onClose={() => setStarting(false)} onOpened={enter} />
      )}
      {invite !== null && store.loaded && (
        <JoinGroup
          store={store}
          code={invite}
          onClose={() => setInvite(null)}
          onJoined={enter}
        />
      )}
      {store.notice && (
        <div class={`notice${store.notice.bad ? " bad" : ""}`} role="alert">
          {store.notice.text}
        </div>
      )}
      <div class="spoken" aria-live="polite">
        {store.spoken}
      </div>
    </div>
  );
}

function Welcome(props: { store: Store; onNew: () => void }) {
  const { store } = props;
  if (!store.loaded) return <div class="welcome" aria-busy="true" />;
  return (
    <div class="welcome">
      <span class="fruit" aria-hidden="true" />
      <h1>Hello, {store.me}</h1>
      <p>
        {store.convs.size > 0
          ? "Pick a conversation, or start a new one."
          : "Start your first conversation."}
      </p>
      <button type="button" class="primary" onClick={props.onNew}>
        New chat
      </button>
    </div>
  );
}

/** A message that somebody is to be led to. */
interface Target {
  c: ConvId;
  s: Seq;
}

/** `/` where nobody writes, or Ctrl (Cmd) and K. */
function isSearchKey(event: KeyboardEvent): boolean {
  const { key, ctrlKey, metaKey, altKey } = event;
  if (event.defaultPrevented || altKey) return false;
  if (ctrlKey || metaKey) return key.toLowerCase() === "k" && !event.shiftKey;
  return key === "/" && !(event.target as HTMLElement).matches("input, textarea, select");
}

interface ConversationProps {
  store: Store;
  conv: Conv;
  target: Target | null;
  onThere: () => void;
  onSearch: () => void;
  onBack: () => void;
}

function Conversation(props: ConversationProps) {
  const { store, conv, target } = props;
  const timeline = useMemo(() => store.timeline(conv), [conv.c]);
  const [mode, setMode] = useState<Mode>({ kind: "new" });
  const [removing, setRemoving] = useState<Rec | null>(null);
  const [picking, setPicking] = useState<Picking | null>(null);
  const [readers, setReaders] = useState<Rec | null>(null);
  const [versions, setVersions] = useState<Rec | null>(null);
  const [panel, setPanel] = useState<Panel | null>(null);
  const [setting, setSetting] = useState(false);
  const threads = useMemo(() => new Threads(store.client, conv), [conv.c]);
  useEffect(() => () => threads.close(), [threads]);
  const title = titleOf(conv);
  const messages = useRef<Messages>(null);
  const actions = useMemo<RowActions>(
    () => ({
      reply: (rec) => setMode({ kind: "reply", rec }),
      edit: (rec) => setMode({ kind: "edit", rec }),
      remove: (rec) => setRemoving(rec),
      react: (rec, row) => setPicking({ rec, row }),
      thread: (root) => setPanel({ show: "thread", root }),
      versions: (rec) => setVersions(rec),
      readers: (rec) => setReaders(rec),
      pin: (rec, on) => store.client.pin(rec.c, rec.s, on),
      jump: (s) => {
        if (narrow.matches) setPanel(null); // it covers the messages
        messages.current?.jump(s);
      },
    }),
    [],
  );
  useEffect(() => {
    if (target?.c !== conv.c) return;
    if (narrow.matches) setPanel(null);
    messages.current?.jump(target.s, !touch.matches);
    props.onThere();
  }, [target]);
  const editLast = (): void => {
    const rec = timeline.lastWhere(
      (r) => isMessage(r) && r.kind === "text" && r.from === store.me,
    );
    if (rec) setMode({ kind: "edit", rec });
  };
  return (
    <div class="conversation">
      <section class="talk" aria-label={title}>
        <Bar
          store={store}
          conv={conv}
          threads={threads}
          panel={panel}
          onPanel={setPanel}
          onSearch={props.onSearch}
          onSettings={() => setSetting(true)}
          onBack={props.onBack}
        />
        <Pins
          store={store}
          conv={conv}
          timeline={timeline}
          onJump={actions.jump}
        />
        <Messages
          list={messages}
          store={store}
          conv={conv}
          timeline={timeline}
          actions={actions}
        />
        <TypingLine store={store} conv={conv} />
        <Composer
          store={store}
          conv={conv}
          mode={mode}
          onDone={() => setMode({ kind: "new" })}
          onEditLast={editLast}
        />
      </section>
      <Beside
        store={store}
        conv={conv}
        timeline={timeline}
        threads={threads}
        panel={panel}
        onPanel={setPanel}
        actions={actions}
      />
      {versions && <Versions store={store} rec={versions} onClose={() => setVersions(null)} />}
      {setting && (
        <SettingsDialog store={store} conv={conv} onClose={() => setSetting(false)} />
      )}
      {picking && (
        <Picker
          rec={store.expected(timeline.message(picking.rec.s) ?? picking.rec)}
          row={picking.row}
          onPick={(emoji) => {
            store.toggle(timeline.message(picking.rec.s) ?? picking.rec, emoji);
            setPicking(null);
          }}
          onClose={() => setPicking(null)}
        />
      )}
      {readers && (
        <ReadBy
          store={store}
          rec={readers}
          onMembers={() => {
            setReaders(null);
            setPanel({ show: "members", at: readers });
          }}
          onClose={() => setReaders(null)}
        />
      )}
      {removing && (
        <DeleteMessage
          rec={removing}
          store={store}
          forAll={mayDelete(conv, removing, store.me)}
          onClose={() => setRemoving(null)}
        />
      )}
    </div>
  );
}

/** A message that an emoji is chosen for, and its row. */
interface Picking {
  rec: Rec;
  row: HTMLElement | null;
}

/** What stands beside the messages. */
type Panel =
  | { show: "members"; at: Rec | null }
  | { show: "threads" }
  | { show: "thread"; root: Seq };

interface PanelProps {
  store: Store;
  conv: Conv;
  threads: Threads;
  panel: Panel | null;
  onPanel: (panel: Panel | null) => void;
}

interface BarProps extends PanelProps {
  onSearch: () => void;
  onSettings: () => void;
  onBack: () => void;
}

function Bar(props: BarProps) {
  const { store, conv, threads, panel, onPanel } = props;
  const title = titleOf(conv);
  const members = panel?.show === "members";
  const threaded = panel !== null && !members;
  return (
    <header class="bar">
      <button
        type="button"
        class="round back"
        aria-label="Back to the list"
        onClick={props.onBack}
      >
        <Icon name="back" />
      </button>
      <Avatar name={title} group={conv.kind === "group"} />
      <div class="what">
        <h1>{title}</h1>
        <span title={conv.topic ?? undefined}>
          {conv.kind === "group" ? (
            conv.topic || plural(conv.members, "member")
          ) : (
            <PresenceLine store={store} user={conv.with ?? ""} otherwise="Direct chat" />
          )}
        </span>
      </div>
      {!!conv.ttl && (
        <span
          class="ttl"
          role="img"
          title={`New messages disappear after ${spanOf(conv.ttl)}`}
          aria-label={`New messages disappear after ${spanOf(conv.ttl)}`}
        >
          <Icon name="clock" />
          <span>{spanOf(conv.ttl)}</span>
        </span>
      )}
      <button
        type="button"
        class="round"
        title="Search in this conversation"
        aria-label="Search in this conversation"
        onClick={props.onSearch}
      >
        <Icon name="search" />
      </button>
      <ThreadsButton
        threads={threads}
        open={threaded}
        onPress={() => onPanel(threaded ? null : { show: "threads" })}
      />
      <button
        type="button"
        class="round"
        aria-label="Settings"
        aria-haspopup="dialog"
        onClick={props.onSettings}
      >
        <Icon name="settings" />
      </button>
      {conv.kind === "group" && (
        <button
          type="button"
          class="round"
          aria-label="Members"
          aria-expanded={members}
          onClick={() => onPanel(members ? null : { show: "members", at: null })}
        >
          <Icon name="people" />
        </button>
      )}
    </header>
  );
}

function Beside(props: PanelProps & { timeline: Timeline; actions: RowActions }) {
  const { store, conv, timeline, threads, panel, onPanel } = props;
  const onClose = (): void => {
    onPanel(null);
    if (!touch.matches) document.querySelector<HTMLElement>(".talk textarea")?.focus();
  };
  switch (panel?.show) {
    case "members":
      return (
        <Members
          key={panel.at?.s}
          store={store}
          conv={conv}
          at={panel.at}
          onNow={() => onPanel({ show: "members", at: null })}
          onClose={onClose}
        />
      );
    case "threads":
      return (
        <ThreadList
          store={store}
          conv={conv}
          timeline={timeline}
          threads={threads}
          onOpen={(root) => onPanel({ show: "thread", root })}
          onClose={onClose}
        />
      );
    case "thread":
      return (
        <ThreadPane
          key={panel.root}
          root={panel.root}
          store={store}
          conv={conv}
          timeline={timeline}
          threads={threads}
          actions={props.actions}
          onBack={() => onPanel({ show: "threads" })}
          onClose={onClose}
        />
      );
    default:
      return null;
  }
}

function ThreadsButton(props: { threads: Threads; open: boolean; onPress: () => void }) {
  const { unread } = useObserved(props.threads);
  const label =
    unread > 0 ? `Threads, ${plural(unread, "unread reply", "unread replies")}` : "Threads";
  return (
    <button
      type="button"
      class="round threads-button"
      title="Threads"
      aria-label={label}
      aria-expanded={props.open}
      onClick={props.onPress}
    >
      <Icon name="thread" />
      {unread > 0 && <span class="badge">{count(unread)}</span>}
    </button>
  );
}

/** Says when the connection is away, for how long, and what waits for it. */
function Banner(props: { store: Store }) {
  const { store } = props;
  const { state } = store;
  const [, tick] = useState(0);
  useEffect(() => {
    if (state.name !== "waiting") return;
    const timer = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, [state]);
  // A quick reconnect is nobody's business.
  const [late, setLate] = useState(false);
  const away = state.name !== "live";
  useEffect(() => {
    setLate(false);
    if (!away) return;
    const timer = setTimeout(() => setLate(true), store.loaded ? 400 : 1500);
    return () => clearTimeout(timer);
  }, [away]);
  if (!away || !late) return <div class="banner" role="status" hidden />;

  const light = (op: string): boolean => op === "react" || op === "pin";
  const waiting = store.queue.filter((entry) => !entry.error && !light(entry.op)).length;
  const seconds = state.name === "waiting" ? Math.ceil((state.retryAt - Date.now()) / 1000) : 0;
  const offline = !navigator.onLine;
  const what = offline
    ? "You are offline."
    : seconds > 1
      ? `No connection. Trying again in ${seconds} s.`
      : "Connecting…";
  return (
    <div class="banner" role="status">
      <span class="dot" aria-hidden="true" />
      <span>
        {what}
        {waiting > 0 && ` ${plural(waiting, "message waits", "messages wait")} to be sent.`}
      </span>
      {state.name === "waiting" && !offline && (
        <button type="button" onClick={() => store.client.wake()}>
          Now
        </button>
      )}
    </div>
  );
}
