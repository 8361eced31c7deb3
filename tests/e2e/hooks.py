"""hooks.py BUILD SCRATCH: see hooks.sh. Run one after the other; the last line is `N passed, N failed`."""

import atexit
import signal
import sys

import async_lib
from hooks_lib import Gateway, Server, Target, free_port, wait_for

BUILD, SCRATCH = sys.argv[1:3]
ALLOW = ("--webhook-allow", "127.0.0.0/8,::1")
started = []


def end_all():
    for server in started:
        if server.process is not None:
            server.stop(signal.SIGKILL)


atexit.register(end_all)


def gateway(name, *options):
    one = Gateway(BUILD, SCRATCH, name, *options)
    started.append(one)
    return one.start()


def hook(gate, name, target, **more):
    return gate.ok("PUT", f"/v1/consumers/{name}", {"webhook": {"url": target.url, **more}})


def lag(gate, name):
    return gate.ok("GET", f"/v1/consumers/{name}")["lag"]


def all_texts(target, wanted):
    """Everything wanted has come, what is wanted first at first."""
    wait_for("what was sent", lambda: set(wanted) <= set(target.texts()))
    firsts = list(dict.fromkeys(target.texts()))
    assert [t for t in firsts if t in set(wanted)] == wanted, "the order"


async def test_signed_and_in_order():
    gate, target = gateway("signed", "--embed", f"{SCRATCH}/signed", *ALLOW), Target()
    c = gate.open_group("signed")
    gate.send(c, "before")
    made = hook(gate, "one", target)
    assert made["secret"].startswith("whsec_") and "secret" not in gate.ok("GET", "/v1/consumers/one")
    texts = [f"m{i}" for i in range(200)]
    for text in texts:
        gate.send(c, text)
    all_texts(target, texts)
    assert "before" not in target.texts(), "a webhook begins now"
    assert all(target.signed(r, made["secret"]) for r in target.requests)
    assert len({r["headers"]["webhook-id"] for r in target.requests}) == len(target.requests)
    assert target.requests[0]["body"]["consumer"] == "one"
    wait_for("the cursors", lambda: lag(gate, "one") == 0)
    assert len(target.texts()) == len(texts), "each came once"
    assert "secret" not in hook(gate, "one", target), "the secret stays"
    gate.send(c, "again")
    wait_for("one more", lambda: "again" in target.texts())
    assert target.signed(target.requests[-1], made["secret"])
    renewed = hook(gate, "one", target, secret=True)["secret"]
    wait_for("the new secret", lambda: gate.send(c, f"new {len(target.requests)}") and
             target.signed(target.requests[-1], renewed))
    assert not gate.says("hidden") and not gate.says(renewed), "no secret in the log"
    gate.ok("DELETE", "/v1/consumers/one")
    wait_for("its end", lambda: gate.metric("loquat_webhooks ") == 0)
    count = len(target.requests)
    gate.send(c, "nobody hears")
    assert gate.stop() == 0 and len(target.requests) == count
    target.close()


async def test_only_what_is_wanted():
    gate, target = gateway("wanted", "--embed", f"{SCRATCH}/wanted", *ALLOW), Target()
    a, b = gate.open_group("a"), gate.open_group("b")
    hook(gate, "some", target, kinds=["text", "edit"], c=[a])
    first = gate.send(a, "first")
    gate.send(b, "of another")
    gate.send(a, "a picture", "x-picture")
    gate.send(a, "last")
    wait_for("both", lambda: len(target.texts()) == 2)
    assert target.texts() == ["first", "last"] and first["s"] > 0
    assert {r["kind"] for r in target.records()} == {"text"}
    wait_for("the cursors", lambda: lag(gate, "some") == 0)
    assert gate.stop() == 0
    target.close()


async def test_again_until_it_is_taken():
    gate, target = gateway("again", "--embed", f"{SCRATCH}/again", *ALLOW), Target()
    c = gate.open_group("again")
    hook(gate, "again", target)
    target.answer = lambda request: (500, {}) if target.tried < 3 else (200, {})
    texts = [f"a{i}" for i in range(20)]
    for text in texts:
        gate.send(c, text)
    all_texts(target, texts)
    assert len(target.texts()) == len(texts)
    # The gateway hears of it, and says it, after the target has taken it.
    wait_for("its line in the log", lambda: gate.says("a webhook is taken again"))
    at = []
    target.answer = lambda request: at.append(request["at"]) or (
        (503, {"Retry-After": "4"}) if len(at) < 2 else (200, {}))
    gate.send(c, "wait")
    wait_for("it", lambda: "wait" in target.texts())
    assert at[1] - at[0] >= 4, f"as long as it asked for: {at}"
    refused = gate.metric('loquat_webhook_requests_total{outcome="refused"}')
    assert refused == 3, f"of two 500 and one 503, {refused} were counted"
    # Where it is told to go by an answer it does not go.
    other = Target()
    target.answer = lambda request: (307, {"Location": other.url})
    gate.send(c, "elsewhere")
    wait_for("the answer", lambda: gate.metric('loquat_webhook_requests_total{outcome="refused"}') > 3)
    assert other.tried == 0
    target.answer = lambda request: (200, {})
    assert gate.stop() == 0
    target.close()
    other.close()


async def test_nothing_is_lost():
    options = ("--embed", f"{SCRATCH}/lost", *ALLOW)
    gate, target = gateway("lost", *options), Target()
    c = gate.open_group("lost")
    hook(gate, "lost", target)
    texts = []
    for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        for _ in range(60):
            texts.append(f"l{len(texts)}")
            gate.send(c, texts[-1])
        gate.stop(how)
        gate.start()
    all_texts(target, texts)
    wait_for("the cursors", lambda: lag(gate, "lost") == 0)
    # Put to an earlier place it begins there again, while it runs.
    p = next(p for p in gate.ok("GET", "/v1/consumers/lost")["partitions"] if p["head"] > 0)
    count = len(target.texts())
    gate.ok("PUT", f"/v1/consumers/lost/{p['p']}", {"offset": 0})
    gate.send(c, "wake")
    wait_for("all again", lambda: len(target.texts()) > count + len(texts))
    assert target.texts()[-1] == "wake"
    gate.stop()
    target.close()


async def test_what_is_never_taken_can_be_skipped():
    gate, target = gateway("skip", "--embed", f"{SCRATCH}/skip", *ALLOW), Target()
    c = gate.open_group("skip")
    made = hook(gate, "skip", target)
    target.answer = lambda request: (400, {}) if b"poison" in request["raw"] else (200, {})
    ids = []
    gate.send(c, "good")
    wait_for("it", lambda: target.texts() == ["good"])
    gate.send(c, "poison")
    wait_for("three refusals", lambda: target.tried >= 4)
    p = next(p for p in gate.ok("GET", "/v1/consumers/skip")["partitions"] if p["lag"] > 0)
    assert p["lag"] == 1 and made["partitions"][p["p"]]["offset"] < p["head"]
    gate.send(c, "behind it")
    gate.ok("PUT", f"/v1/consumers/skip/{p['p']}", {"offset": p["head"]})
    wait_for("what lies behind", lambda: target.texts() == ["good", "behind it"])
    wait_for("the cursors", lambda: lag(gate, "skip") == 0)
    # The same is sent again under the same id.
    target.answer = lambda request: ids.append(request["headers"]["webhook-id"]) or (
        (500, {}) if len(ids) < 3 else (200, {}))
    gate.send(c, "thrice")
    wait_for("it", lambda: "thrice" in target.texts())
    assert len(set(ids)) == 1, ids
    assert gate.stop() == 0
    target.close()


async def test_where_it_may_not_go():
    gate = gateway("guard", "--embed", f"{SCRATCH}/guard")
    plain, tls = Target(), Target(f"{SCRATCH}/right")
    c = gate.open_group("guard")
    for url in ("https://127.0.0.1/", "https://10.1.2.3/", "https://[::1]/", "https://169.254.169.254/",
                "https://[::ffff:127.0.0.1]/", "https://0x7f.1/", "https://2130706433/",
                "https://192.168.1.1:8443/x", "https://[fd00::1]/", "https://[64:ff9b::a00:1]/"):
        status, error = gate.ask("PUT", "/v1/consumers/bad", {"webhook": {"url": url}})
        assert status == 403 and "--webhook-allow" in error["msg"], f"{url}: {status} {error}"
    status, error = gate.ask("PUT", "/v1/consumers/bad", {"webhook": {"url": "http://example.com/"}})
    assert status == 403 and "https" in error["msg"], error
    for url in ("ftp://example.com/", "https://", "file:///etc/passwd", "https://a:b@example.com/",
                "https://exa mple.com/", 7, "https://example.com/" + "x" * 3000):
        assert gate.ask("PUT", "/v1/consumers/bad", {"webhook": {"url": url}})[0] in (400, 413), url
    assert gate.ask("GET", "/v1/consumers/bad")[0] == 404
    # A name is looked at when it is connected to.
    hook(gate, "name", tls)
    gate.send(c, "secret")
    wait_for("the refusal", lambda: gate.metric('loquat_webhook_requests_total{outcome="failed"}') > 0)
    assert gate.says("not of the public internet") and tls.tried == 0 and plain.tried == 0
    assert gate.stop() == 0
    plain.close()
    tls.close()


async def test_tls():
    gate = gateway("tls", "--embed", f"{SCRATCH}/tls", *ALLOW, "--webhook-ca", f"{SCRATCH}/right.pem")
    right, other = Target(f"{SCRATCH}/right"), Target(f"{SCRATCH}/other")
    c = gate.open_group("tls")
    hook(gate, "right", right)
    hook(gate, "other", other)
    gate.send(c, "under a seal")
    wait_for("it", lambda: right.texts() == ["under a seal"])
    wait_for("the refusal", lambda: gate.metric('loquat_webhook_requests_total{outcome="failed"}') > 0)
    assert other.tried == 0 and gate.stop() == 0
    right.close()
    other.close()


async def test_gateways_share_and_take_over():
    node = Server(SCRATCH, "node", f"{BUILD}/loquat-node", "--data", f"{SCRATCH}/node", "--listen",
                  f"127.0.0.1:{free_port()}", "--cluster-secret-file", f"{SCRATCH}/cluster")
    started.append(node)
    node.start()
    options = ("--nodes", node.address, "--cluster-secret-file", f"{SCRATCH}/cluster", *ALLOW)
    a, b, off = (gateway("ga", *options), gateway("gb", *options),
                 gateway("off", *options, "--webhooks", "off"))
    target = Target()
    groups = [a.open_group(f"share{i}") for i in range(12)]
    hook(a, "share", target)
    workers = lambda: len(a.ok("GET", "/v1/consumers/share")["workers"])
    wait_for("both", lambda: workers() == 2)
    texts = []

    def talk(through):
        for c in groups:
            texts.append(f"s{len(texts)}")
            through.send(c, texts[-1])

    talk(a)
    wait_for("what was sent", lambda: set(texts) <= set(target.texts()))
    wait_for("the shares", lambda: talk(a) or all(
        g.metric('loquat_webhook_requests_total{outcome="taken"}') > 0 for g in (a, b)))
    assert off.metric('loquat_webhook_requests_total{outcome="taken"}') == 0
    assert b.stop() == 0 and workers() == 1, "who stops says so"
    talk(a)
    wait_for("all of the one that is left", lambda: set(texts) <= set(target.texts()))
    b.start()
    wait_for("both again", lambda: workers() == 2)
    a.stop(signal.SIGKILL)
    talk(b)
    wait_for("all of the one that is left, in time", lambda: set(texts) <= set(target.texts()), 55)
    for c in range(len(groups)):
        mine = [t for t in dict.fromkeys(target.texts()) if t in texts[c :: len(groups)]]
        assert mine == texts[c :: len(groups)], "the order of a conversation"
    assert b.stop() == 0 and off.stop() == 0 and node.stop() == 0
    target.close()


async_lib.main(globals())
