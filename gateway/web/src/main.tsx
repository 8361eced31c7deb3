/** Starts the page: with a token the chat, without one a form that asks for it. */

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { tokenClaims } from "../sdk/index.ts";
import { Chat } from "./chat.tsx";
import { inviteFromAddress } from "./invites.tsx";
import { useObserved } from "./observe.ts";
import { Store } from "./store.ts";
import * as token from "./token.ts";
import "./base.css";
import "./chat.css";
import "./sidebar.css";
import "./talk.css";
import "./members.css";
import "./threads.css";
import "./messages.css";

function App(props: { first: string | null; invite: string | null }) {
  // An object: the same token once more is another attempt.
  const [current, setCurrent] = useState(props.first === null ? null : { token: props.first });
  const [store, setStore] = useState<Store | null>(null);
  const enter = (next: string): void => {
    token.store(next);
    setCurrent({ token: next });
  };
  useEffect(() => {
    const look = (): void => {
      const next = token.takeFromAddress();
      if (next) enter(next);
    };
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  useEffect(() => {
    if (current === null) return;
    const made = new Store(current.token, () => token.stored() ?? current.token);
    made.start();
    setStore(made);
    return () => made.stop();
  }, [current]);
  if (current === null) return <Gate why={null} onToken={enter} />;
  if (!store) return null;
  return <Session store={store} invite={props.invite} onToken={enter} />;
}

function Session(props: {
  store: Store;
  invite: string | null;
  onToken: (token: string) => void;
}) {
  const { state } = useObserved(props.store);
  const out = state.name === "stopped" && state.code >= 4100;
  useEffect(() => {
    if (out) token.forget();
  }, [out]);
  if (out) {
    const kicked = state.code === 4203;
    const why = kicked
      ? "An administrator has closed this session."
      : "Your link is not valid any more.";
    return <Gate why={why} onToken={props.onToken} />;
  }
  return <Chat store={props.store} invite={props.invite} />;
}

function Gate(props: { why: string | null; onToken: (token: string) => void }) {
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState<string | null>(null);
  const submit = (event: Event): void => {
    event.preventDefault();
    const found = token.fromText(text);
    if (!found) return setWrong("That is no link or token. Copy the whole of it, please.");
    const exp = tokenClaims(found)?.exp;
    if (exp !== undefined && exp * 1000 < Date.now()) return setWrong("This one has expired.");
    props.onToken(found);
  };
  return (
    <main class="gate">
      <form onSubmit={submit}>
        <span class="fruit" aria-hidden="true" />
        <h1>loquat</h1>
        <p>
          {props.why ?? "Welcome. This chat is entered with a personal link."} Ask whoever runs
          it for one, and paste it here.
        </p>
        <label>
          Link or token
          <input
            type="password"
            autocomplete="off"
            value={text}
            onInput={(event) => {
              setText(event.currentTarget.value);
              setWrong(null);
            }}
          />
        </label>
        {wrong && (
          <p class="error" role="alert">
            {wrong}
          </p>
        )}
        <button type="submit" class="primary" disabled={text.trim() === ""}>
          Enter
        </button>
      </form>
    </main>
  );
}

const fresh = token.takeFromAddress();
if (fresh) token.store(fresh);
const invite = inviteFromAddress();
render(
  <App first={fresh ?? token.stored()} invite={invite} />,
  document.getElementById("app")!,
);
