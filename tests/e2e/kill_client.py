"""Sends through kills and writes down what was acknowledged: kill_client.py ACKS STOP.
kill_client.py --verify ACKS reads everything back and compares. LOQUAT_URL, LOQUAT_TOKEN_ALICE."""

import asyncio
import json
import os
import random
import sys
import urllib.request

import websockets

BASE = os.environ["LOQUAT_URL"]
URL = BASE.replace("http://", "ws://") + "/v1/ws"
TOKEN = os.environ["LOQUAT_TOKEN_ALICE"]
WINDOW = 64


async def session(state, acks, stop):
    async with websockets.connect(URL, subprotocols=["loquat.v1.json"], max_size=None) as ws:
        await ws.recv()
        await ws.send(json.dumps({"id": 1, "op": "auth", "token": TOKEN, "device": "k"}))
        await ws.recv()
        request = {"id": 2, "op": "open", "kind": "group", "name": "kills", "members": ["bob"], "cid": "k"}
        await ws.send(json.dumps(request))
        state["c"] = json.loads(await ws.recv())["ok"]["c"]
        inflight = state["inflight"] = {}
        next_id = 10
        while not (os.path.exists(stop) and not inflight and not state["open"]):
            while len(inflight) < WINDOW and (state["open"] or not os.path.exists(stop)):
                number = min(state["open"]) if state["open"] else state["next"]
                if state["open"]:
                    state["open"].discard(number)
                else:
                    state["next"] += 1
                inflight[next_id] = number
                state["sent"].add(number)
                await ws.send(
                    json.dumps(
                        {
                            "id": next_id,
                            "op": "send",
                            "c": state["c"],
                            "cid": f"n{number}",
                            "kind": "text",
                            "body": {"text": f"number {number}"},
                        }
                    )
                )
                next_id += 1
            for line in (await ws.recv()).split("\n"):
                message = json.loads(line)
                if "ok" in message:
                    number = inflight.pop(message["id"])
                    acks.write(json.dumps([number, message["ok"]["s"]]) + "\n")
                elif "err" in message:
                    number = inflight.pop(message["id"])
                    state["open"].add(number)


async def run(path, stop):
    state = {"next": 0, "open": set(), "inflight": {}, "sent": set(), "c": None}
    with open(path, "w", buffering=1) as acks:
        for _ in range(1000):
            try:
                await session(state, acks, stop)
                acks.write(json.dumps({"c": state["c"], "next": state["next"]}) + "\n")
                print("sent", state["next"])
                return 0
            except (OSError, websockets.WebSocketException, KeyError) as error:
                state["open"] |= set(state["inflight"].values())
                state["inflight"] = {}
                await asyncio.sleep(random.uniform(0.02, 0.2))
    return 1


def verify(path):
    acked, info = {}, None
    for line in open(path):
        value = json.loads(line)
        if isinstance(value, dict):
            info = value
        else:
            number, seq = value
            assert acked.setdefault(number, seq) == seq, f"{number} was acknowledged as two sequences"
    request = urllib.request.Request(
        f"{BASE}/v1/conversations/{info['c']}/records?view=log",
        headers={"Authorization": "Bearer " + TOKEN, "Accept": "application/x-ndjson"},
    )
    found, at = {}, 1
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            record = json.loads(line)
            assert "hole" not in record, record
            assert record["s"] == at, (record["s"], at)
            at += 1
            if record["kind"] == "text":
                number = int(record["body"]["text"].split()[1])
                assert number not in found, f"{number} is there twice"
                found[number] = record["s"]
    for number, seq in acked.items():
        assert found.get(number) == seq, (number, seq, found.get(number))
    assert len(acked) == info["next"], "not everything was acknowledged in the end"
    print(f"{len(acked)} acknowledged, {len(found)} found, {at - 1} records")
    assert len(found) == info["next"]


if sys.argv[1] == "--verify":
    verify(sys.argv[2])
else:
    sys.exit(asyncio.run(run(sys.argv[1], sys.argv[2])))
