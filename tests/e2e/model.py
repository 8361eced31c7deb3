"""Random users and operations by seed, through real gateways, against a model (model_world.py).

Started by model.sh. One operation at a time, its answer held against the model's; now and then
several at once, which must then be explained by the order of the log. Live events of every device,
and reads of any user, must give what the model has. The last line is `N passed, N failed`."""

import argparse
import asyncio
import collections
import json
import random
import sys
import time
import traceback

from model_check import Checker, now_ms, same
from model_crowds import Crowds
from model_device import Device, token
from model_ops import MEMBERSHIP, UNORDERED, Maker
from model_state import ADMIN, some_of
from model_world import Model

EDGE_MS = 700  # nothing is asked of a conversation so shortly before a message of it expires
SHORT_MS = 5000  # what lives longer expires after the test


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ops", type=int, default=300)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=1, help="for the command that is printed")
    parser.add_argument("--kill", action="store_true", help="says `kill N`, reads an answer")
    parser.add_argument("--control", help="the fifos of these words, SAY,HEAR")
    parser.add_argument("--group-max", type=int, required=True)
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("urls", nargs="+")
    return parser.parse_args()


class Run(Crowds):
    def __init__(self, options, seed, killer):
        self.options, self.seed, self.killer = options, seed, killer
        self.rng = random.Random(seed)
        self.model = Model(options.group_max)
        self.check = Checker(self.rng, self.model)
        users = [f"s{seed}u{i}" for i in range(options.users)]
        self.maker = Maker(self.rng, self.model, users, [f"ghost{i}" for i in range(60)])
        secret = open(options.secret_file, "rb").read().strip()
        urls = [url.replace("http", "ws", 1) + "/v1/ws" for url in options.urls]
        self.devices = [Device(user, f"d{j}", urls[(i + j) % len(urls)], token(secret, user))
                        for i, user in enumerate(users) for j in range(1 + self.rng.randint(0, 1))]
        self.admin = Device(ADMIN, "d", urls[0], token(secret, ADMIN, "admin"))
        self.last = collections.deque(maxlen=25)
        self.ops, self.phases, self.kills, self.expected = 0, 0, 0, {}
        self.counts = collections.Counter()

    async def run(self):
        for device in [*self.devices, self.admin]:
            await device.connect(500)
        await self.warm_up()
        while self.ops < self.options.ops:
            await self.step()
        await self.end()

    async def warm_up(self):
        """In its first moments a cluster refuses some operations, and counts no mentions."""
        c = (await self.admin.ok("open", kind="direct", **{"with": ADMIN}))["c"]
        fields = {"c": c, "cid": f"warm{self.seed}", "ttl": 3600 + self.seed}
        await self.admin.ok("meta", **fields)

    async def step(self):
        dice = self.rng.random()
        if dice < 0.03:
            await self.turn()
        elif dice < 0.06:
            await self.phase()
        elif dice < 0.063 or self.ops > self.options.ops / 2 and not self.counts["flood"]:
            await self.flood()
        elif dice < 0.083:
            await self.rng.choice([self.meet, self.rush, self.quarrel])()
        else:
            await self.one()
        if self.rng.random() < 0.25:
            await self.some_checks()

    def live(self):
        return [device for device in self.devices if device.live]

    def note(self, text):
        self.last.append(text if len(text) < 600 else text[:600] + "…")

    # ---- time

    async def edge(self, convs=None):
        """Waits where a message is about to expire."""
        now = now_ms()
        for conv in self.model.convs.values() if convs is None else convs:
            ends = [r.data["expires"] for r in conv.records if "expires" in r.data]
            ends += [invite.answer["expires"] for invite in conv.invites.values()]
            near = [e for e in ends if now - 50 < e < now + EDGE_MS]
            if near:
                await asyncio.sleep((max(near) + 60 - now) / 1000)
                return await self.edge(convs)

    async def quiet(self):
        """Waits until nothing is left that expires during the test."""
        while True:
            now = now_ms()
            ends = [r.data["expires"] for c in self.model.convs.values() for r in c.records
                    if now - 50 < r.data.get("expires", 0) < now + SHORT_MS]
            if not ends:
                return
            await asyncio.sleep((max(ends) + 60 - now) / 1000)

    # ---- operations

    async def one(self):
        device = self.rng.choice(self.live())
        without = ()
        if self.model.convs and self.rng.random() < 0.04:
            device, without = self.admin, UNORDERED
        op, fields = self.maker.make(device.user, without)
        await self.edge()
        if op == "typing" and device in self.devices:  # what this very connection follows
            await self.check.settled([device])
        if op == "prefs":  # a message of the same millisecond would be newer
            await asyncio.sleep(0.002)
        plan = self.model.plan(device.user, op, fields, now_ms())
        answer = await self.ask(device, op, fields)
        await self.judge(device, plan, answer)
        self.model.group += 1

    async def ask(self, device, op, fields):
        self.ops += 1
        answer = await device.call(op, fields)
        if op == "open" and "ok" in answer:
            c = answer["ok"]["c"]
            if c not in self.model.convs:
                first = await device.ok("range", c=c, max=1)
                answer["ok"]["first"] = first["records"][0]
        if op == "invite" and "ok" in answer:
            answer["record"] = await self.record(fields["c"], answer["ok"]["s"])
        if op == "join" and "ok" in answer:
            conv = self.model.convs[answer["ok"]["c"]]
            if device.user not in conv.members:
                answer["record"] = await self.record(conv.c, conv.head + 1)
        self.note(f"{device} {op} {json.dumps(fields, ensure_ascii=False)} → {answer}")
        self.counts[op if "ok" in answer else answer["err"]["code"]] += 1
        return answer

    async def record(self, c, s):
        """What an answer does not say, as scope `admin` reads it."""
        return (await self.admin.ok("range", c=c, **{"from": s, "max": 1}))["records"][0]

    def fits(self, plan, answer):
        """What is different, or None."""
        if plan.kind == "code":
            code = answer.get("err", {}).get("code")
            return None if code == plan.value else f"must be refused: {plan.value}"
        if "err" in answer:
            return f"must be ok: {plan}"
        ok = answer["ok"]
        if plan.kind == "null":
            return None if ok == {"s": None, "dup": False} else "must be s: null"
        if plan.kind == "ok":
            return None if ok == {} else "must be {}"
        if plan.kind == "dup":
            data = plan.value.data
            wanted = {k: data[k] for k in ("s", "mid", "ts", "n")}
            fine = ok in ({**wanted, "dup": True}, {"s": data["s"], "dup": True})
            return None if fine else f"must be dup of {wanted}"
        if plan.kind == "invited":
            return None if ok == plan.value else f"must be {plan.value}"
        if plan.kind == "data" and plan.op == "invite":
            return self.fits_invite(plan, ok, answer["record"])
        if plan.kind == "data":
            n = plan.conv.n + (plan.op == "send")
            wanted = {"s": plan.conv.head + 1, "n": n, "dup": ok["dup"] and answer["again"]}
            fine = {k: ok.get(k) for k in wanted} == wanted and "mid" in ok and "ts" in ok
            return None if fine else f"must be {wanted}"
        return None if plan.kind == "new" or ok["c"] == plan.conv.c else f"must be {plan.conv.c}"

    @staticmethod
    def fits_invite(plan, ok, record):
        s, body = plan.conv.head + 1, plan.value["body"]
        ends = record["ts"] + body["expires"] * 1000
        wanted = {"s": s, "code": ok.get("code"), "expires": ends, "uses": body["uses"]}
        fine = ok == wanted and isinstance(ok["code"], str) and 1 <= len(ok["code"]) <= 128
        return None if fine else f"must be {wanted}"

    async def judge(self, device, plan, answer):
        wrong = self.fits(plan, answer)
        assert not wrong, f"{plan.op} {plan.fields}: {wrong}\n    but is {answer}"
        self.commit(plan, answer)
        if plan.kind in ("new", "found", "join"):
            conv = self.model.convs[answer["ok"]["c"]]
            answer["ok"].pop("first", None)
            same(answer["ok"], self.model.conv(conv, device.user, now_ms()), "open")

    def commit(self, plan, answer):
        self.model.commit(plan, self.written(answer))
        if plan.op in ("open", "member", "join") and plan.kind in ("data", "new", "join"):
            conv = self.model.convs[answer["ok"]["c"]] if plan.op == "open" else plan.conv
            for user in conv.members:
                self.expected[user, conv.c, conv.head] = self.model.conv(conv, user, now_ms())
        if plan.kind in ("data", "new", "join"):
            self.maker.wrote(plan.user, plan.op, plan.fields)

    @staticmethod
    def written(answer):
        return {**answer["ok"], **some_of(answer, "record")} if "ok" in answer else None

    # ---- several at once

    async def phase(self):
        """Several users, each of them with some operations, all at once."""
        self.phases += 1
        kill = self.killer and self.kills < 2 and (not self.kills or self.rng.random() < 0.3)
        await self.check.settled(self.devices)
        await (self.quiet() if kill else self.edge())
        self.maker.short += 100
        without = ("mark", "prefs") if self.rng.random() < 0.5 else (*MEMBERSHIP, "prefs")
        without = (*without, *UNORDERED)
        asked = []
        for _ in range(self.rng.randint(3, 40 if kill else 15)):
            device = self.rng.choice(self.live())
            if not self.model.of(device.user):
                continue
            op, fields = self.maker.make(device.user, without)
            if op == "mark":
                fields.update({k: min(v, self.model.convs[fields["c"]].head)
                               for k, v in fields.items() if k in ("read", "delivered")})
            asked.append((device, op, fields))
            if "cid" in fields and self.rng.random() < 0.1:
                others = [d for d in self.live() if d.user == device.user]
                asked.append((self.rng.choice(others), op, fields))
        self.maker.short -= 100
        self.note(f"---- {len(asked)} at once")
        if kill:
            self.kills += 1
            self.killer.kill(self.rng.randint(1, self.options.nodes))
        back = [d for d in self.devices if not d.live][:1]
        readers = [(d, c) for d in self.live()[:2] for c in list(d.views)[:2]]
        answers = await asyncio.gather(
            *[self.ask(*each) for each in asked],
            *[d.connect(self.rng.choice([1, 500])) for d in back],
            *[self.check.walk(*each) for each in readers])
        answers = answers[:len(asked)]
        if kill:
            await self.killer.back()
        self.note("----")
        for answer in answers:  # a gateway may have sent it again by itself
            answer["again"] |= bool(kill)
        convs = {fields["c"] for _, _, fields in asked}
        for c in sorted(convs):
            here = [(d, op, f, a) for (d, op, f), a in zip(asked, answers) if f["c"] == c]
            self.explain(self.model.convs[c], here)
        self.model.group += 1

    def explain(self, conv, here):
        """The log gives the order: each answer must be the model's at some place of it."""
        writes, rest, lasts = {}, [], {}
        here.sort(key=lambda each: each[3].get("ok", {}).get("dup", False))  # else the order stays
        for each in here:
            device, op, fields, answer = each
            s = answer.get("ok", {}).get("s")
            if s and s > conv.head and s not in writes:
                writes[s] = each
                if not answer["again"] and not answer["ok"].get("dup", op == "invite"):
                    assert s > lasts.get(device, 0), f"{device}: {op} {fields}: out of order"
                    lasts[device] = s
            else:
                rest.append(each)
        rest = self.place(rest)
        for s in sorted(writes):
            device, op, fields, answer = writes[s]
            twin = any(e[2] is fields for e in here if e[0] is not device or e[3] is not answer)
            plan = self.model.plan(device.user, op, fields, now_ms())
            judged = {**answer, "again": answer["again"] or twin}
            wrong = self.fits(plan, judged)
            assert not wrong, f"{op} {fields}, at once with others: {wrong}\n    but is {answer}"
            self.commit(plan, answer)
            rest = self.place(rest)
        assert not rest, "at no place of the log: " + "\n    ".join(
            f"{d} {op} {f} → {a}; at the end: {self.model.plan(d.user, op, f, now_ms())}"
            for d, op, f, a in rest)

    def place(self, rest):
        """Those that fit here are done; gives the others."""
        left = []
        for device, op, fields, answer in rest:
            plan = self.model.plan(device.user, op, fields, now_ms())
            if plan.kind in ("data", "join") or self.fits(plan, answer):
                left.append((device, op, fields, answer))
            else:
                self.model.commit(plan, self.written(answer))
        return left

    # ---- devices come and go

    async def turn(self):
        """A device goes, or comes back: with what it has, or having forgotten some of it."""
        device = self.rng.choice(self.devices)
        if device.live and len(self.live()) > 1:
            await self.check.settled([device])
            self.check.live_view(device)
            await device.close()
            self.note(f"{device} goes")
        elif not device.live:
            await self.edge()
            await self.comes_back(device, [c for c in device.views if self.rng.random() < 0.2])

    async def comes_back(self, device, forget):
        convs = await device.connect(self.rng.choice([1, 3, 500]), forget)
        self.note(f"{device} is back, has forgotten {list(forget)}")
        self.check.convs(device.user, {conv["c"]: conv for conv in convs}, "sync")
        await self.check.settled([device])

    # ---- checks

    async def some_checks(self):
        await self.edge()
        device = self.rng.choice(self.live())
        await self.check.lists(device)
        await self.check.blocks(device)
        if not self.kills and self.rng.random() < 0.3:
            await self.check.presence(device, {d.user for d in self.live()})
        convs = self.model.of(device.user)
        if convs:
            await self.check.conversation(device, self.rng.choice(convs))
        foreign = [c for c in self.model.convs.values() if device.user not in c.members]
        if foreign:
            await self.check.stranger(device, self.rng.choice(foreign))
        self.check.faultless(device)

    async def end(self):
        """Everything, for everybody, after all that expires has expired."""
        await self.quiet()
        for device in self.devices:
            if not device.live:
                await self.comes_back(device, ())
        await self.check.settled(self.devices)
        for device in self.devices:
            self.check.live_view(device)
            self.check.joined(device, self.expected)
            await self.check.lists(device)
            await self.check.blocks(device)
            for conv in self.model.convs.values():
                if device.user not in conv.members:
                    await self.check.stranger(device, conv)
                    continue
                for folded in (False, True):
                    await self.check.range(device, conv, folded, folded, whole=True)
                await self.check.conversation(device, conv)
        for conv in self.model.convs.values():
            await self.check.range(self.admin, conv, False, False, whole=True)
        for device in [*self.devices, self.admin]:
            await device.close()


class Killer:
    """The script kills a node and starts it again, when it is told to."""

    def __init__(self, say, hear):
        self.to, self.of = open(say, "w"), open(hear)

    def kill(self, node):
        print("kill", node, file=self.to, flush=True)

    async def back(self):
        word = await asyncio.get_running_loop().run_in_executor(None, self.of.readline)
        assert word.strip() == "back", f"the node that was killed: {word}"


async def main(options):
    killer = Killer(*options.control.split(",")) if options.control else None
    passed = failed = 0
    for seed in range(options.seed, options.seed + options.seeds):
        run, started = Run(options, seed, killer if options.kill else None), time.monotonic()
        try:
            await run.run()
            passed += 1
            counts = " ".join(f"{k} {v}" for k, v in sorted(run.counts.items()))
            print(f"ok    seed {seed}: {run.ops} operations, {run.phases} times several at once, "
                  f"{run.kills} kills, {time.monotonic() - started:.1f} s: {counts}", flush=True)
        except Exception as error:  # the report is the point
            failed += 1
            kills = " --kill" if options.kill else ""
            print("\n".join(run.last))
            if not isinstance(error, AssertionError):
                traceback.print_exc(file=sys.stdout)
            print(f"FAIL  seed {seed}: after {run.ops} operations: {error}")
            print(f"      tests/e2e/model.sh --nodes {options.nodes}{kills} --seed {seed} "
                  f"--ops {options.ops} --users {options.users}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


asyncio.run(main(arguments()))
