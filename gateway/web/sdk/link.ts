/** One WebSocket connection from `hello` to its end: requests by id, timeouts, pings. */

import { LoquatError, type Hello, type WireError } from "./types.ts";

export const SUBPROTOCOL = "loquat.v1.json";

/** What the SDK needs of a WebSocket: a browser's, or npm `ws`. */
export interface SocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}
export type SocketClass = new (url: string, protocols: string[]) => SocketLike;

export interface CloseInfo {
  code: number;
  reason: string;
}

/** An event of the server: `{"ev":…}`. */
export type ServerEvent = { ev: string } & Record<string, unknown>;
export type Fields = Record<string, unknown>;

export interface LinkOptions {
  url: string;
  socket: SocketClass;
  openTimeoutMs: number;
  requestTimeoutMs: number;
  pingTimeoutMs: number;
  onEvent: (event: ServerEvent) => void;
}

interface Waiting {
  resolve: (value: any) => void;
  reject: (err: LoquatError) => void;
  timer: ReturnType<typeof setTimeout>;
}

/** Lines of one turn go out as one frame of about this many bytes at most. */
const FRAME_TARGET = 16_384;
const encoder = new TextEncoder();

export class Link {
  readonly hello: Promise<Hello>;
  readonly closed: Promise<CloseInfo>;
  maxIn = 65_536;
  #options: LinkOptions;
  #socket: SocketLike;
  #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #out: string[] = [];
  #outBytes = 0;
  #ended = false;
  #heardAt = Date.now();
  #pingTimer: ReturnType<typeof setInterval> | undefined;
  #openTimer: ReturnType<typeof setTimeout>;
  #onHello!: (hello: Hello) => void;
  #onClosed!: (info: CloseInfo) => void;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.closed = new Promise((resolve) => (this.#onClosed = resolve));
    this.hello = new Promise((resolve, reject) => {
      this.#onHello = resolve;
      void this.closed.then((info) => reject(closedError(info)));
    });
    this.hello.catch(() => undefined);
    this.#openTimer = setTimeout(() => this.close(4000, "no hello"), options.openTimeoutMs);
    this.#socket = new options.socket(options.url, [SUBPROTOCOL]);
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = (event) =>
      this.#end({ code: event.code, reason: String(event.reason ?? "") });
    this.#socket.onerror = () => undefined; // `close` follows
  }

  get open(): boolean {
    return !this.#ended;
  }

  /** Sends a request; rejects with the server's error, `timeout`, `closed` or `too_large`. */
  request<T>(
    op: string,
    fields: Fields = {},
    timeoutMs = this.#options.requestTimeoutMs,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const id = this.#nextId++;
      const err = this.#write(JSON.stringify({ id, op, ...fields }));
      if (err) {
        reject(err);
        return;
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new LoquatError({ code: "timeout", msg: op, retry: true }));
      }, timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
    });
  }

  /** Without an answer, and without word of whether it went out. */
  tell(op: string, fields: Fields): void {
    this.#write(JSON.stringify({ op, ...fields }));
  }

  /**
   * Asks for a sign of life; without one the connection counts as dead. Until the server's hello
   * nothing can be sent, and the time for opening is what ends it.
   */
  probe(timeoutMs = this.#options.pingTimeoutMs): void {
    if (this.#pingTimer === undefined) return;
    this.request("ping", {}, timeoutMs).catch((err: LoquatError) => {
      if (err.code !== "timeout") return;
      if (Date.now() - this.#heardAt >= timeoutMs) this.close(4000, "no answer");
      else this.probe(timeoutMs); // something came meanwhile; it may have been the last
    });
  }

  /** Ends the connection now, whether or not the other side still answers. */
  close(code = 1000, reason = ""): void {
    if (this.#ended) return;
    this.#end({ code, reason });
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    try {
      this.#socket.close(code, reason);
    } catch {
      // was never opened
    }
  }

  #write(line: string): LoquatError | null {
    if (this.#ended) return new LoquatError({ code: "closed", retry: true });
    const bytes =
      line.length * 3 <= FRAME_TARGET ? line.length * 3 : encoder.encode(line).length;
    if (bytes > this.maxIn)
      return new LoquatError({ code: "too_large", msg: `${bytes} bytes` });
    if (this.#outBytes + bytes > FRAME_TARGET) this.#flush();
    if (this.#out.length === 0) queueMicrotask(() => this.#flush());
    this.#out.push(line);
    this.#outBytes += bytes + 1;
    return null;
  }

  #flush(): void {
    if (this.#out.length === 0 || this.#ended) return;
    const frame = this.#out.join("\n");
    this.#out = [];
    this.#outBytes = 0;
    try {
      this.#socket.send(frame);
    } catch {
      this.close(4000, "could not send");
    }
  }

  #receive(data: unknown): void {
    this.#heardAt = Date.now();
    if (typeof data !== "string") return this.close(4000, "binary frame");
    for (const line of data.split("\n")) {
      if (line === "" || this.#ended) continue;
      let message: Record<string, any>;
      try {
        message = JSON.parse(line);
      } catch {
        return this.close(4000, "not JSON");
      }
      if (typeof message["ev"] === "string") this.#event(message as ServerEvent);
      else this.#reply(message);
    }
  }

  #event(event: ServerEvent): void {
    if (event.ev !== "hello") return this.#options.onEvent(event);
    const hello = event as unknown as Hello;
    clearTimeout(this.#openTimer);
    this.maxIn = hello.max_in || this.maxIn;
    const pingMs = hello.ping_ms || 25_000;
    this.#pingTimer = setInterval(() => {
      if (Date.now() - this.#heardAt >= pingMs / 2) this.probe();
    }, pingMs);
    this.#onHello(hello);
  }

  #reply(message: Record<string, any>): void {
    const waiting = this.#waiting.get(message["id"]);
    if (!waiting) return; // its time had run out
    this.#waiting.delete(message["id"]);
    clearTimeout(waiting.timer);
    if (message["err"]) waiting.reject(new LoquatError(message["err"] as WireError));
    else waiting.resolve(message["ok"] ?? {});
  }

  #end(info: CloseInfo): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#openTimer);
    clearInterval(this.#pingTimer);
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#onClosed(info);
    for (const { reject, timer } of waiting) {
      clearTimeout(timer);
      reject(closedError(info));
    }
  }
}

function closedError(info: CloseInfo): LoquatError {
  return new LoquatError({
    code: "closed",
    msg: `${info.code} ${info.reason}`.trim(),
    retry: true,
  });
}
