#!/usr/bin/env python3
"""feed.py: a backend job in Python's standard library: reads the feeds of all conversations over HTTP,
as a consumer whose place the server keeps.

    LOQUAT_URL=http://127.0.0.1:8080 LOQUAT_TOKEN=… feed.py CONSUMER [--follow]

The token has the scope jobs. One process for each consumer: several that share its partitions say so
to the server (docs/PROTOCOL.md, 11.1), as the C library does. A line for each record: what a job does
with it goes into take().
"""
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ.get("LOQUAT_URL", "http://127.0.0.1:8080")
TOKEN = os.environ["LOQUAT_TOKEN"]
WAIT_MS = 1000  # of a request for records that are not there yet; more with fewer partitions


def ask(method, path, body=None, accept="application/json"):
    request = urllib.request.Request(
        URL + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Accept": accept},
    )
    return urllib.request.urlopen(request, timeout=60)


def take(records):
    """All of these, or an exception: they come again then."""
    for line in records:
        record = line["record"]
        what = record.get("kind") or f"hole: {record['why']}"
        print(line["offset"], record["c"], what, json.dumps(record.get("body", {})))
    sys.stdout.flush()


def read(consumer, partition, place, wait_ms):
    """A page behind the place, taken; gives the place behind it, and whether that is the end."""
    path = f"/v1/partitions/{partition}/feed?after={place}&wait_ms={wait_ms}"
    with ask("GET", path, accept="application/x-ndjson") as page:
        records = [json.loads(line) for line in page]
        behind, head = int(page.headers["Loquat-Next"]), int(page.headers["Loquat-Head"])
    take(records)
    if behind != place:
        ask("PUT", f"/v1/consumers/{consumer}/{partition}", {"offset": behind}).close()
    return behind, behind >= head


def main():
    consumer, follow = urllib.parse.quote(sys.argv[1], safe=""), "--follow" in sys.argv[2:]
    with ask("PUT", f"/v1/consumers/{consumer}", {}) as answer:  # one that is there stays as it is
        places = {part["p"]: part["offset"] for part in json.load(answer)["partitions"]}
    waits = 0
    while True:
        ended = True
        for partition, place in places.items():
            try:
                places[partition], at_end = read(consumer, partition, place, waits)
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                # 4xx but 429: another try would say the same
                if not follow or 400 <= getattr(error, "code", 0) < 429:
                    raise
                at_end = True
                time.sleep(1)
            ended = ended and at_end
        if ended and not follow:
            return
        waits = WAIT_MS // len(places) if ended else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: feed.py CONSUMER [--follow]")
    main()
