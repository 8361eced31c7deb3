/** Keeps one connection live: connects, authenticates, comes back with jitter, renews the token. */

import { Link, type CloseInfo, type ServerEvent, type SocketClass } from "./link.ts";
import { LoquatError, type Session as Identity } from "./types.ts";

export type State =
  | { name: "idle" }
  | { name: "connecting" }
  | { name: "live" }
  /** Comes back by itself at `retryAt`. */
  | { name: "waiting"; retryAt: number; code: number; reason: string }
  /** Does not come back by itself. */
  | { name: "stopped"; code: number; reason: string };

export type TokenWhy = "start" | "refresh" | "refused";

export interface SessionOptions {
  url: string;
  token: (why: TokenWhy) => Promise<string>;
  device: string;
  socket: SocketClass;
  openTimeoutMs: number;
  requestTimeoutMs: number;
  pingTimeoutMs: number;
  backoffMs: [base: number, cap: number];
}

export interface SessionHooks {
  onState(state: State): void;
  onEvent(event: ServerEvent): void;
  /** Authenticated: brings the client up to date; the connection is live when it resolves. */
  onReady(link: Link, identity: Identity): Promise<void>;
  onLive(): void;
  onDown(): void;
}

/** A connection that lived this long makes the next delay short again. */
const STEADY_MS = 10_000;
const TIMER_MAX_MS = 0x7fffffff;
/** A token is renewed after this part of its life, but not earlier than so long before its end. */
const REFRESH_AT = 0.8;
const REFRESH_AHEAD_MS = 60_000;
/** With less left than this no further renewal is tried. */
const REFRESH_LAST_MS = 500;

export class Connector {
  state: State = { name: "idle" };
  link: Link | null = null;
  #options: SessionOptions;
  #hooks: SessionHooks;
  /** Which `start` is in force: a loop of an earlier one ends by itself. */
  #run = 0;
  #running = false;
  #wake: (() => void) | null = null;
  #goodbye: [number, number] | null = null;
  #refreshTimer: ReturnType<typeof setTimeout> | undefined;
  #token = "";

  constructor(options: SessionOptions, hooks: SessionHooks) {
    this.#options = options;
    this.#hooks = hooks;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#loop(++this.#run);
  }

  stop(code = 1000, reason = ""): void {
    this.#running = false;
    this.link?.close(code, reason);
    this.#wake?.();
    this.#setState({ name: "stopped", code, reason });
  }

  /** The network may be back: don't wait any longer. */
  wake(): void {
    this.#wake?.();
  }

  async #loop(run: number): Promise<void> {
    let attempt = 0;
    let why: TokenWhy = "start";
    while (this.#running && run === this.#run) {
      const startedAt = Date.now();
      const end = await this.#once(why);
      if (!this.#running || run !== this.#run) return;
      if (end.code >= 4200 && end.code <= 4299) return this.stop(end.code, end.reason);
      why = end.code >= 4100 && end.code <= 4199 ? "refused" : "start";
      if (end.live && Date.now() - startedAt >= STEADY_MS) attempt = 0;
      const delay = this.#delay(attempt++);
      this.#setState({
        name: "waiting",
        retryAt: Date.now() + delay,
        code: end.code,
        reason: end.reason,
      });
      await this.#sleep(delay);
    }
  }

  /** One connection, to its end. */
  async #once(why: TokenWhy): Promise<CloseInfo & { live: boolean }> {
    this.#setState({ name: "connecting" });
    const refused = this.#token;
    try {
      this.#token = await this.#options.token(why);
      if ((tokenExpiry(this.#token) ?? Infinity) <= Date.now())
        this.#token = await this.#options.token("refused");
    } catch (err) {
      const final = err instanceof LoquatError && !err.retry;
      return { code: final ? 4202 : 4000, reason: `no token: ${message(err)}`, live: false };
    }
    if (why === "refused" && this.#token === refused)
      return { code: 4202, reason: "the token has expired", live: false };
    if (!this.#running) return { code: 1000, reason: "", live: false };
    let link: Link;
    try {
      link = new Link({ ...this.#options, onEvent: (event) => this.#onEvent(event) });
    } catch (err) {
      return { code: 4000, reason: message(err), live: false };
    }
    this.link = link;
    const live = await this.#bringUp(link);
    const info = await link.closed;
    clearTimeout(this.#refreshTimer);
    this.link = null;
    this.#hooks.onDown();
    return { ...info, live };
  }

  async #bringUp(link: Link): Promise<boolean> {
    try {
      await link.hello;
      const identity = await this.#authenticate(link);
      await this.#hooks.onReady(link, identity);
      this.#setState({ name: "live" });
      this.#hooks.onLive();
      return true;
    } catch (err) {
      const refused = err instanceof LoquatError && err.code === "unauthorized";
      if (!(err instanceof LoquatError && err.code === "closed"))
        link.close(refused ? 4202 : 4000, message(err));
      return false;
    }
  }

  async #authenticate(link: Link): Promise<Identity> {
    const token = this.#token;
    const identity = await link
      .request<Identity>("auth", { token, device: this.#options.device })
      .catch(async (err: LoquatError) => {
        // The close code that follows says whether a new token helps.
        if (err.code === "unauthorized") await Promise.race([link.closed, pause(1000)]);
        throw err;
      });
    this.#scheduleRefresh(link, token);
    return identity;
  }

  /**
   * Ahead of the end of the token: asks for the next one and authenticates again in place. While
   * that does not work it is tried again in ever shorter steps; then the server closes with 4100.
   */
  #scheduleRefresh(link: Link, token: string, early = REFRESH_AT): void {
    clearTimeout(this.#refreshTimer);
    const expires = tokenExpiry(token);
    if (expires === null) return;
    const left = expires - Date.now();
    const delay = Math.max(0, left - Math.min(REFRESH_AHEAD_MS, left * (1 - early)));
    const again = (): void => {
      if (link.open && expires - Date.now() > REFRESH_LAST_MS)
        this.#scheduleRefresh(link, token, 0.5);
    };
    this.#refreshTimer = setTimeout(
      () => {
        if (delay > TIMER_MAX_MS) this.#scheduleRefresh(link, token, early);
        else void this.#refresh(link, token).catch(again);
      },
      Math.min(delay, TIMER_MAX_MS),
    );
  }

  async #refresh(link: Link, token: string): Promise<void> {
    const next = await this.#options.token("refresh");
    if (!link.open) return;
    if (next === token) throw new LoquatError({ code: "unauthorized", msg: "the same token" });
    this.#token = next;
    await this.#authenticate(link);
  }

  #onEvent(event: ServerEvent): void {
    if (event.ev === "goodbye") {
      const range = event["reconnect_ms"];
      if (Array.isArray(range) && range.length === 2)
        this.#goodbye = [Number(range[0]), Number(range[1])];
    }
    this.#hooks.onEvent(event);
  }

  #delay(attempt: number): number {
    const [base, cap] = this.#options.backoffMs;
    if (this.#goodbye) {
      const [low, high] = this.#goodbye;
      this.#goodbye = null;
      return low + Math.random() * Math.max(0, high - low);
    }
    return Math.random() * Math.min(cap, base * 2 ** Math.min(attempt, 20));
  }

  #sleep(ms: number): Promise<void> {
    return new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    }).then(() => {
      this.#wake = null;
    });
  }

  #setState(state: State): void {
    this.state = state;
    this.#hooks.onState(state);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The claims of a JWT, unchecked: for timers and for showing a name. */
export function tokenClaims(token: string): { sub?: string; exp?: number } | null {
  try {
    const part = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

function tokenExpiry(token: string): number | null {
  const exp = tokenClaims(token)?.exp;
  return typeof exp === "number" ? exp * 1000 : null;
}

function message(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}
