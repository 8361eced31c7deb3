/** The conversation list: rows of one height, so that a long list needs few of them in the DOM. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Conv } from "../sdk/index.ts";
import { Account } from "./account.tsx";
import { ConvMenu } from "./convmenu.tsx";
import { ConvRow, type RowProps } from "./convrow.tsx";
import { useObserved } from "./observe.ts";
import type { FoundHit } from "./finder.ts";
import { Avatar, Icon } from "./parts.tsx";
import { onSearchKey, Results, SearchBox } from "./search.tsx";
import type { Store } from "./store.ts";
import { count, titleOf } from "./words.ts";

/** As in sidebar.css. */
const ROW_PX = 68;
const OVERSCAN_ROWS = 6;

interface Props {
  store: Store;
  onOpen: (c: string) => void;
  onHit: (hit: FoundHit) => void;
  onNew: () => void;
}

/** The menu that is open. */
interface Menu {
  c: string;
  button: HTMLElement;
  point: DOMPoint | null;
}

export function Sidebar({ store, onOpen, onHit, onNew }: Props) {
  useObserved(store.drafts);
  useObserved(store.presences);
  const finder = useObserved(store.finder);
  const [inArchive, setInArchive] = useState(false);
  const [account, setAccount] = useState(false);
  const [menu, setMenu] = useState<Menu | null>(null);
  const wanted = finder.text.trim().toLowerCase();
  const all = store.list();
  const archived = all.filter((conv) => conv.hidden);
  const archive = inArchive && archived.length > 0; // the last one has come back: so does the list
  useEffect(() => setInArchive(archive), [archive]);
  const named = (conv: Conv): boolean => titleOf(conv).toLowerCase().includes(wanted);
  const shown = archive ? archived : all.filter((conv) => !conv.hidden);
  const more = archive ? 0 : archived.length;
  const row: Omit<RowProps, "conv"> = {
    store,
    onOpen,
    onMenu: (conv, button, point) => setMenu({ c: conv.c, button, point }),
  };
  const menuConv = menu && store.convs.get(menu.c);
  useEffect(() => {
    if (!menuConv) setMenu(null); // it is gone: the menu does not come back with it
  }, [!menuConv]);
  return (
    <nav class="sidebar" aria-label="Conversations">
      {archive ? (
        <header>
          <button
            type="button"
            class="round"
            aria-label="Back to all conversations"
            onClick={() => setInArchive(false)}
          >
            <Icon name="back" />
          </button>
          <strong>Archived</strong>
        </header>
      ) : (
        <header>
          <button
            type="button"
            class="self"
            title="Your settings"
            aria-label={`Your settings, ${store.me}`}
            aria-haspopup="dialog"
            onClick={() => setAccount(true)}
          >
            <Avatar name={store.me} small />
            <strong>{store.me}</strong>
          </button>
          <button type="button" class="new" onClick={onNew}>
            <Icon name="add" />
            <span>New chat</span>
          </button>
        </header>
      )}
      <div class="finding" onKeyDown={(event) => onSearchKey(finder, event)}>
        <SearchBox store={store} />
        {finder.active ? (
          <Results {...row} convs={all.filter(named)} onHit={onHit} />
        ) : store.loaded && shown.length + more === 0 ? (
          <p class="nothing">No conversations yet.</p>
        ) : (
          <List
            {...row}
            convs={shown}
            archived={more}
            onArchive={() => setInArchive(true)}
          />
        )}
      </div>
      {account && <Account store={store} onClose={() => setAccount(false)} />}
      {menu && menuConv && (
        <ConvMenu store={store} conv={menuConv} {...menu} onClose={() => setMenu(null)} />
      )}
    </nav>
  );
}

interface ListProps extends Omit<RowProps, "conv"> {
  convs: Conv[];
  /** So many are out of the list: a last row leads there. */
  archived: number;
  onArchive: () => void;
}

function List(props: ListProps) {
  const { convs, archived, onArchive, ...row } = props;
  const list = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 1000 });
  useEffect(() => {
    const element = list.current!;
    const look = (): void => setView({ top: element.scrollTop, height: element.clientHeight });
    const resize = new ResizeObserver(look);
    resize.observe(element);
    element.addEventListener("scroll", look);
    return () => resize.disconnect();
  }, []);
  const first = Math.max(0, Math.floor(view.top / ROW_PX) - OVERSCAN_ROWS);
  const end = Math.min(
    convs.length,
    Math.ceil((view.top + view.height) / ROW_PX) + OVERSCAN_ROWS,
  );
  const at = (index: number) => ({ transform: `translateY(${index * ROW_PX}px)` });
  const rows = convs.length + (archived > 0 ? 1 : 0);
  return (
    <div class="convs" ref={list}>
      <ul style={{ height: `${rows * ROW_PX}px` }}>
        {convs.slice(first, end).map((conv, i) => (
          <li
            key={conv.c}
            aria-setsize={rows}
            aria-posinset={first + i + 1}
            style={at(first + i)}
          >
            <ConvRow conv={conv} {...row} />
          </li>
        ))}
        {archived > 0 && end === convs.length && (
          <li key="archive" aria-setsize={rows} aria-posinset={rows} style={at(convs.length)}>
            <button type="button" class="archived" onClick={onArchive}>
              <Icon name="archive" />
              <span>Archived</span>
              <span class="number">{count(archived)}</span>
            </button>
          </li>
        )}
      </ul>
    </div>
  );
}
