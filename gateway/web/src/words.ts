/** How people, times and messages are put into words. */

import { isHole, type Conv, type Hole, type Presence, type Rec } from "../sdk/index.ts";
import { nameOf } from "./emoji.ts";

const locale = navigator.language.startsWith("en") ? navigator.language : "en-GB";
const clock = new Intl.DateTimeFormat(locale, { hour: "numeric", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(locale, { weekday: "long" });
const dayMonth = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const numeric = new Intl.DateTimeFormat(locale, { dateStyle: "short" });
const whole = new Intl.DateTimeFormat(locale, { dateStyle: "full" });
const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
const counts = new Intl.NumberFormat(locale);
const sentence = new Intl.ListFormat(locale);
const relative = new Intl.RelativeTimeFormat(locale);

const WEEK_DAYS = 7;

/** Whole days between then and now, by the local calendar. */
function daysAgo(ts: number): number {
  const noon = (ms: number): number => new Date(ms).setHours(12, 0, 0, 0);
  return Math.round((noon(Date.now()) - noon(ts)) / 86_400_000);
}

export const timeOf = (ts: number): string => clock.format(ts);
export const dateOf = (ts: number): string => `${dayMonth.format(ts)}, ${clock.format(ts)}`;
export const momentOf = (ts: number): string => full.format(ts);
export const count = (n: number): string => counts.format(n);

export function sameDay(a: number, b: number): boolean {
  const near = Math.abs(a - b) < 26 * 3_600_000; // a day may have 25 hours
  return near && new Date(a).getDate() === new Date(b).getDate();
}

export function dayOf(ts: number): string {
  const days = daysAgo(ts);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : whole.format(ts);
}

/** As short as a list has room for. */
export function shortTime(ts: number): string {
  const days = daysAgo(ts);
  if (days <= 0) return clock.format(ts);
  if (days === 1) return "Yesterday";
  if (days < WEEK_DAYS) return weekday.format(ts);
  return days < 300 ? dayMonth.format(ts) : numeric.format(ts);
}

export function titleOf(conv: Conv): string {
  return (conv.kind === "direct" ? conv.with : conv.name) || "Conversation";
}

/** The text of a message, or what stands for it. */
export function textOf(rec: Pick<Rec, "kind" | "body">): string {
  const body = rec.body ?? {};
  const string = (key: string): string =>
    typeof body[key] === "string" ? (body[key] as string) : "";
  if (rec.kind === "text") return string("text");
  if (rec.kind === "image") return string("alt") || "Picture";
  if (rec.kind === "file") return string("name") || "File";
  return string("text") || rec.kind;
}

const VERBS: Record<string, string> = { join: "joined", part: "left", quit: "left" };

/** Kinds of applications: what their bodies commonly say. */
function applicationWords(kind: string, body: Record<string, unknown>): string {
  const type = typeof body["type"] === "string" ? body["type"] : kind.slice("x-".length);
  const text = typeof body["text"] === "string" ? body["text"].trim() : "";
  if (type === "action" && text !== "") return text;
  return (VERBS[type] ?? type) + (text === "" ? "" : ` (${text})`);
}

/** What happened to the group, or in it without being said; null: nothing that is told. */
export function eventOf(rec: Rec, me: string): string | null {
  const who = rec.from === me ? "You" : rec.from;
  const body = rec.body ?? {};
  const user = String(body["user"] ?? "");
  const whom = user === me ? (who === "You" ? "yourself" : "you") : user;
  if (rec.kind === "member" && user !== "") {
    if (body["set"] === "add")
      return user === rec.from ? `${who} joined` : `${who} added ${whom}`;
    if (body["set"] === "remove")
      return user === rec.from ? `${who} left` : `${who} removed ${whom}`;
    if (body["set"] === "role")
      return `${who} made ${whom} ${String(body["role"] ?? "member")}`;
  }
  if (rec.kind.startsWith("x-")) return `${who} ${applicationWords(rec.kind, body)}`;
  if (rec.kind === "invite") return `${who} made an invite link`;
  if (rec.kind === "uninvite") return `${who} took an invite link back`;
  if (rec.kind === "pin") return `${who} ${body["on"] === false ? "un" : ""}pinned a message`;
  if (rec.kind === "meta" && body["kind"] === "group") return `${who} created the group`;
  if (rec.kind === "meta" && body["kind"] === undefined) {
    const deeds = settingsOf(body);
    return deeds.length > 0 ? `${who} ${sentence.format(deeds)}` : null;
  }
  return null;
}

/** What was done to the settings that a `meta` names. */
function settingsOf(body: Record<string, unknown>): string[] {
  const { name, topic, ttl, history, announce, lang, searchable } = body;
  const deeds: string[] = [];
  if (typeof name === "string") deeds.push(`named the group “${name}”`);
  if ("topic" in body)
    deeds.push(topic ? `set the topic to “${String(topic)}”` : "took the topic away");
  if ("ttl" in body)
    deeds.push(
      ttl
        ? `set new messages to disappear after ${spanOf(Number(ttl))}`
        : "set new messages to stay for good",
    );
  if ("history" in body)
    deeds.push(
      history === "joined"
        ? "hid earlier messages from new members"
        : "let new members read earlier messages",
    );
  if ("announce" in body)
    deeds.push(announce ? "let only owners and admins write" : "let everybody write");
  if ("lang" in body)
    deeds.push(
      lang
        ? `set the language of search to ${languageOf(String(lang))}`
        : "took the language of search away",
    );
  if ("searchable" in body)
    deeds.push(searchable === false ? "turned search off" : "turned search on");
  return deeds;
}

const languages = new Intl.DisplayNames("en", { type: "language" });

/** Its name; of no language: the code. */
export function languageOf(code: string): string {
  return languages.of(code) ?? code;
}

const UNITS: [string, number][] = [
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

/** So many seconds, in the largest unit that fits. */
export function spanOf(seconds: number): string {
  const [unit, size] = UNITS.find(([, each]) => seconds % each === 0) ?? UNITS.at(-1)!;
  return plural(seconds / size, unit);
}

/** What a reaction says to who can't see it; null: none. */
export function reactionOf(rec: Rec): string | null {
  const { emoji, on } = rec.body ?? {};
  if (rec.kind !== "react" || on === false) return null;
  return `${rec.from} reacted with ${nameOf(String(emoji))}`;
}

/** How long ago, as far as that says something; then the day. */
function agoOf(ts: number, now: number): string {
  const minutes = Math.floor((now - ts) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return relative.format(-minutes, "minute");
  if (minutes < 24 * 60) return relative.format(-Math.floor(minutes / 60), "hour");
  return daysAgo(ts) <= 1 ? `yesterday at ${timeOf(ts)}` : `on ${dayMonth.format(ts)}`;
}

/** Whether somebody is there, or was when. */
export function presenceOf({ state, last_seen }: Presence, now: number): string {
  return state === "offline" && last_seen !== null
    ? `last seen ${agoOf(last_seen, now)}`
    : state;
}

/** Who writes just now. */
export function typingOf(users: string[]): string {
  if (users.length > 3) return `${count(users.length)} people are typing`;
  return `${sentence.format(users)} ${users.length === 1 ? "is" : "are"} typing`;
}

/** Null: a hole that nothing is said about. */
export function holeText(hole: Hole): string | null {
  const n = hole.hole[1] - hole.hole[0] + 1;
  const what = n === 1 ? "Message" : `${count(n)} messages`;
  return hole.why === "erased" ? `${what} deleted` : null; // what expired goes without a word
}

export function previewOf(conv: Conv, me: string): string {
  const last = conv.last;
  if (!last) return conv.kind === "direct" ? "Say hello" : "No messages yet";
  if (isHole(last)) return holeText(last) ?? "";
  const event = eventOf(last, me);
  if (event !== null) return event;
  const text = textOf(last).slice(0, 200);
  if (last.from === me) return `You: ${text}`;
  return conv.kind === "group" ? `${last.from}: ${text}` : text;
}

export function plural(n: number, one: string, more = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : more}`;
}

const USER = /^[A-Za-z0-9._@-]{1,64}$/;
export const isUser = (text: string): boolean => USER.test(text);
