"""What several do at once on purpose: a part of the Run of model.py."""

import asyncio

from model_check import now_ms


class Crowds:
    async def flood(self):
        """More than a window, of one user, and up to limits; a device that was away gets `lag`."""
        convs = [c for c in self.model.convs.values()
                 if sum(d.user in c.members for d in self.live()) > 1]
        if not convs or self.counts["flood"]:
            return await self.one()
        conv = self.rng.choice(convs)
        writers = [d for d in self.live() if d.user in conv.members
                   and not (conv.announce and conv.members[d.user].role == "member")]
        readers = [d for d in self.live() if d.user in conv.members and d not in writers[:1]]
        if not writers:
            return await self.one()
        self.counts["flood"] += 1
        for reader in readers[:2]:
            await self.check.settled([reader])
            await reader.close()
        device = writers[0]
        await self.edge()
        asked = []
        for i in range(300):
            fields = {"c": conv.c, "kind": "text", "body": {"text": f"flood {i}"},
                      "cid": self.maker.cid(device.user)}
            asked.append((device, "send", fields))
        asked += self.maker.limits(conv, device, self.live())
        answers = await asyncio.gather(*[self.ask(*each) for each in asked])
        self.ops -= len(asked) - 20
        self.explain(conv, [(*each, answer) for each, answer in zip(asked, answers)])
        self.model.group += 1
        self.note(f"---- that was a flood; {[str(r) for r in readers[:2]]} come back")
        for reader in readers[:2]:
            await self.comes_back(reader, ())
            self.counts["lags"] += reader.lags

    async def meet(self):
        """Opened by several at once, it is one conversation."""
        one, other = self.rng.sample(self.maker.users, 2)
        if self.rng.random() < 0.5:
            asked = [(d, {"kind": "direct", "with": other if d.user == one else one})
                     for d in self.live() if d.user in (one, other)]
        else:
            fields = {"kind": "group", "name": "met", "members": [other],
                      "cid": self.maker.cid(one)}
            asked = [(d, fields) for d in self.live() if d.user == one] * 2
        if not asked:
            return
        await self.edge()
        answers = await asyncio.gather(*[self.ask(d, "open", f) for d, f in asked])
        first = next((a["ok"]["first"]["from"] for a in answers if "first" in a.get("ok", {})), "")
        for (device, fields), answer in sorted(  # who is blocked may have come before it was there
                zip(asked, answers), key=lambda each: ("ok" in each[1], each[0][0].user != first)):
            plan = self.model.plan(device.user, "open", fields, now_ms())
            await self.judge(device, plan, answer)
        self.model.group += 1

    async def rush(self):
        """One invite, and all who are not in come at once: as many as it has uses."""
        convs = [c for c in self.model.convs.values() if c.kind == "group"
                 and any(d.user in c.members and c.role(d.user) != "member" for d in self.live())
                 and any(d.user not in c.members for d in self.live())]
        if not convs:
            return await self.one()
        conv = self.rng.choice(convs)
        giver = next(d for d in self.live() if d.user in conv.members
                     and conv.role(d.user) != "member")
        fields = {"c": conv.c, "cid": self.maker.cid(giver.user), "uses": self.rng.randint(1, 2)}
        await self.edge()
        plan = self.model.plan(giver.user, "invite", fields, now_ms())
        answer = await self.ask(giver, "invite", fields)
        await self.judge(giver, plan, answer)
        self.model.group += 1
        if "err" in answer:
            return
        joins = {d.user: {"code": answer["ok"]["code"], "cid": self.maker.cid(d.user)}
                 for d in self.live() if d.user not in conv.members}
        asked = [(d, joins[d.user]) for d in self.live() if d.user in joins]
        self.note(f"---- {len(asked)} join at once")
        self.counts["rush"] += 1
        start = conv.head + 1
        answers = await asyncio.gather(*[self.ask(d, "join", f) for d, f in asked])
        page = await self.admin.ok("range", c=conv.c, **{"from": start})
        rest = [(d, "join", f, a) for (d, f), a in zip(asked, answers)]
        for record in page["records"]:
            rest = self.place(rest)
            came = next(each for each in rest if each[0].user == record["from"])
            device, op, fields, answer = came
            rest = [each for each in rest if each is not came]
            plan = self.model.plan(device.user, op, fields, now_ms())
            wrong = self.fits(plan, answer)
            assert plan.kind == "join" and not wrong, f"{record}: {plan}: {wrong}: {answer}"
            self.commit(plan, {**answer, "record": record})
        rest = self.place(rest)
        assert not rest, f"joined at once: {[str(each) for each in rest]}"
        self.model.group += 1

    async def quarrel(self):
        """Somebody is blocked while he writes: from some point on, nothing more is taken."""
        pairs = [(c, d, other) for c in self.model.convs.values() if c.kind == "direct"
                 for d in self.live() if d.user in c.users
                 for other in self.live() if other.user in c.users and other.user != d.user
                 and not self.model.blocks(d.user, other.user)]
        if not pairs:
            return await self.one()
        conv, device, other = self.rng.choice(pairs)
        asked = [(other, "send", {"c": conv.c, "cid": self.maker.cid(other.user), "kind": "text",
                                  "body": {"text": f"please {i}"}}) for i in range(8)]
        block = {"user": other.user}
        await self.edge()
        self.note(f"---- {device} blocks {other} meanwhile")
        self.counts["quarrel"] += 1
        turn = self.rng.randint(0, len(asked))
        every = [*asked[:turn], (device, "block", block), *asked[turn:]]
        answers = await asyncio.gather(*[self.ask(*each) for each in every])
        plan = self.model.plan(device.user, "block", block, now_ms())
        blocked, answers = answers[turn], answers[:turn] + answers[turn + 1:]
        taken = ["ok" in answer for answer in answers]
        assert taken == sorted(taken, reverse=True), f"blocked meanwhile: {answers}"
        every = [(*each, answer) for each, answer in zip(asked, answers)]
        self.explain(conv, every[:sum(taken)])
        self.model.group += 1
        await self.judge(device, plan, blocked)
        self.model.group += 1
        self.explain(conv, every[sum(taken):])
