/** @loquat/web: the client SDK. Browsers as it is; Node 22, or older with npm `ws` as `socket`. */

export { Client } from "./client.ts";
export type { ClientEvents, ClientOptions, OpenRequest, Outgoing } from "./client.ts";
export type { Queued, RangeQuery, SearchQuery } from "./client.ts";
export {
  foldConv,
  foldHide,
  foldMessage,
  foldPrefs,
  foldReaction,
  foldThread,
} from "./fold.ts";
export { SUBPROTOCOL, type ServerEvent, type SocketClass, type SocketLike } from "./link.ts";
export { OUTBOX_MAX, type Entry, type QueuedOp } from "./outbox.ts";
export { READER_MAX } from "./reader.ts";
export { tokenClaims, type State, type TokenWhy } from "./session.ts";
export { memoryStorage, webStorage, type Storage, type WebStorageLike } from "./storage.ts";
export * from "./types.ts";
export { TYPING_MS } from "./typing.ts";
export { ulid } from "./ulid.ts";
export { WATCH_MAX } from "./watching.ts";
