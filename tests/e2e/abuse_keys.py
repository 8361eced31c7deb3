"""Tokens of public keys (RS256, ES256, EdDSA), made with openssl, and their rotation by SIGHUP.

    abuse_keys.py SCRATCH-DIRECTORY
"""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time

from abuse_lib import SECONDS, Server, Ws, b64, finish, request, run, signing_input

SCRATCH = sys.argv[1]
JWKS = os.path.join(SCRATCH, "jwks.json")
KINDS = {
    "RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "EdDSA": ["-algorithm", "ED25519"],
}
server = None


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout


class Key:
    def __init__(self, kid, alg):
        self.kid, self.alg = kid, alg
        self.path = os.path.join(SCRATCH, kid + ".pem")
        openssl("genpkey", *KINDS[alg], "-out", self.path)
        self.public = openssl("pkey", "-in", self.path, "-pubout")

    def jwk(self):
        der = openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")
        if self.alg == "RS256":
            modulus = openssl("rsa", "-in", self.path, "-noout", "-modulus").decode().strip().split("=")[1]
            shape = {"kty": "RSA", "n": b64(bytes.fromhex(modulus)), "e": b64(b"\1\0\1")}
        elif self.alg == "ES256":
            shape = {"kty": "EC", "crv": "P-256", "x": b64(der[-64:-32]), "y": b64(der[-32:])}
        else:
            shape = {"kty": "OKP", "crv": "Ed25519", "x": b64(der[-32:])}
        return {**shape, "kid": self.kid, "alg": self.alg, "use": "sig"}

    def sign(self, text):
        if self.alg == "EdDSA":
            file = os.path.join(SCRATCH, "to-sign-" + self.kid)
            with open(file, "w") as out:
                out.write(text)
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", file)
        signature = openssl("dgst", "-sha256", "-sign", self.path, data=text.encode())
        if self.alg == "RS256":
            return signature
        r_size = signature[3]  # DER: SEQUENCE of two INTEGERs
        r, s = signature[4 : 4 + r_size], signature[6 + r_size :]
        return b"".join(int.from_bytes(x, "big").to_bytes(32, "big") for x in (r, s))

    def token(self, user, header=None, seconds=3600):
        text = signing_input(header or {"alg": self.alg, "kid": self.kid}, {"sub": user, "exp": int(time.time()) + seconds})
        return text + "." + b64(self.sign(text))


def write_keys(*keys, text=None):
    with open(JWKS + ".new", "w") as out:
        out.write(text if text is not None else json.dumps({"keys": [key.jwk() for key in keys]}))
    os.rename(JWKS + ".new", JWKS)


def status(bearer):
    return request(server, "GET", "/v1/conversations", bearer)[0]


def hang_up(want, in_log):
    """SIGHUP, until the log says what became of it."""
    with open(server.log) as log:
        before = log.read().count(in_log)
    server.process.send_signal(signal.SIGHUP)
    until = time.monotonic() + SECONDS
    while open(server.log).read().count(in_log) == before:
        assert time.monotonic() < until, "no word of the reload"
        time.sleep(0.02)
    for bearer, code in want.items():
        assert status(bearer) == code, (bearer, code)


def test_each_kind():
    for key in keys:
        assert status(key.token("alice")) == 200, key.alg
        ws = Ws(server)
        assert ws.ok("auth", token=key.token("alice"))["user"] == "alice"
        assert status(key.token("alice", seconds=-60)) == 401, key.alg
        changed = key.token("alice")
        assert status(changed[:-8] + ("A" * 8 if not changed.endswith("A" * 8) else "B" * 8)) == 401, key.alg
        ws.close()


def test_what_is_refused():
    """Another key under a known kid, another alg than the key's, a MAC made with the public key."""
    rsa, ec, ed = keys
    for key, other in ((rsa, ec), (ec, ed), (ed, rsa)):
        assert status(key.token("alice", {"alg": key.alg, "kid": other.kid})) == 401
        assert status(key.token("alice", {"alg": other.alg, "kid": key.kid})) == 401
    assert status(Key("stranger", "ES256").token("alice")) == 401
    assert status(Key("another-rsa", "RS256").token("alice", {"alg": "RS256", "kid": rsa.kid})) == 401
    claims = {"sub": "alice", "exp": int(time.time()) + 600}
    for key in keys:
        for secret in (key.public, key.public.strip(), b""):
            text = signing_input({"alg": "HS256", "kid": key.kid}, claims)
            assert status(text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())) == 401
    assert status(signing_input({"alg": "none"}, claims) + ".") == 401


def test_rotation():
    """SIGHUP reads the keys again; a file that is none changes nothing; who is connected stays."""
    old, fresh = keys[1], Key("fresh", "ES256")
    was, becomes = old.token("alice"), fresh.token("alice")
    ws = Ws(server, was)
    assert (status(was), status(becomes)) == (200, 401)
    write_keys(old, fresh)
    hang_up({was: 200, becomes: 200}, "keys were read again")
    write_keys(fresh)
    hang_up({was: 401, becomes: 200}, "keys were read again")
    for broken in ("", "{", '{"keys":[]}', '{"keys":[{"kty":"RSA"}]}', "null"):
        write_keys(text=broken)
        hang_up({was: 401, becomes: 200}, "could not be read again")
    os.unlink(JWKS)
    hang_up({becomes: 200}, "could not be read again")
    ws.ok("ping")
    ws.ok("list")
    ws.close()


def test_many_long_conversations():
    """The answer about all conversations of one partition is larger than a message of the link."""
    key = keys[0]  # scope admin has no rate
    text = signing_input(
        {"alg": key.alg, "kid": key.kid}, {"sub": "root", "scope": "admin", "exp": int(time.time()) + 600}
    )
    ws = Ws(server, text + "." + b64(key.sign(text)))
    for i in range(150):
        ws.ask("open", kind="group", name="long", cid=f"long{i}")
    opened = {}
    while len(opened) < 150:
        message = ws.line()
        opened[message["id"]] = message["ok"]["c"]
    for i, c in enumerate(opened.values()):
        ws.ask("send", c=c, cid="l", kind="text", body={"text": "l" * 32000})
        if i % 10 == 9:
            assert all("ok" in ws.line() for _ in range(10))
    got = ws.ok("sync", cur={})
    assert len(got["convs"]) == 150 and got["next"] is None
    seen, page = [], None
    while True:
        got = ws.ok("list", limit=40, page=page)
        seen += [conv["c"] for conv in got["convs"]]
        page = got["next"]
        if page is None:
            break
    assert sorted(seen) == sorted(opened.values())
    assert all(len(conv["last"]["body"]["text"]) == 32000 for conv in got["convs"])
    ws.close()


def test_it_ends_well():
    assert server.stop()[0] == 0


keys = [Key("rsa", "RS256"), Key("ec", "ES256"), Key("ed", "EdDSA")]
write_keys(*keys)
server = Server(SCRATCH, "keys", "--auth-jwks-file", JWKS, "--partitions", "1", "--loops", "1")
tests = [test_each_kind, test_what_is_refused, test_many_long_conversations, test_rotation, test_it_ends_well]
sys.exit(finish(run(tests, 1)))
