"""recall.py LOQUAT-LOG SCRATCH [--seed N] [--queries N] [--all]: what search finds, beside a scan that
knows nothing of the server's tokenizer (re and unicodedata). From the caller: LOQUAT_URL, LOQUAT_TOKEN.

A word of a random message (as \\w+ has it, with the marks that belong to its letters) must find every
message that has the same word, and some characters of a run of Chinese, Japanese, Korean or Thai every
message that contains them: in one conversation or in all of them; in the text as NFKC with case folded
has it. Both while the index is behind, directly after the messages were acknowledged, and after it has
caught up. Texts: those of tests/data/sentences.txt, and of the full data set where it is.
"""

import argparse
import collections
import functools
import http.client
import json
import os
import random
import subprocess
import time
import unicodedata
import urllib.parse

FOLDER = os.environ.get("LOQUAT_DATASET", "../shared/data")
SPACELESS = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA",
             "HANGUL", "THAI", "IDEOGRAPHIC ITERATION", "KATAKANA-HIRAGANA PROLONGED")  # fmt: skip
SEGMENTS = 40  # batches that are searched while the index is behind
BEHIND_LEAST = 100  # answers that must have come while it was
MISSES_SHOWN = 20
PAGE = 100
SAMPLE, SAMPLE_MOST = 1000, 20000  # messages of one language and source; of a conversation
HITS_MOST = 1000  # of a query: others take most of the time


# ---- what must be found ----


@functools.lru_cache(maxsize=None)
def keeps(c):
    """What a word is made of; of format characters only the space without width parts words."""
    if c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M":
        return c
    return "" if unicodedata.category(c) == "Cf" and c != "\u200b" else " "


@functools.lru_cache(maxsize=None)
def is_spaceless(c):
    return unicodedata.category(c)[0] in "LMN" and unicodedata.name(c, "").startswith(SPACELESS)


def norm(text):
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def visible(text):
    return "".join(c for c in norm(text) if unicodedata.category(c) != "Cf")


def words_of(text):
    """As they stand in the text, which may be more than once."""
    kept = "".join(map(keeps, unicodedata.normalize("NFKC", text)))
    return [word for word in kept.split() if any(map(str.isalnum, word))]


def runs_of(text):
    runs, run = [], ""
    for c in text + " ":
        if is_spaceless(c):
            run += c
            continue
        if len(run) >= 2:
            runs.append(run)
        run = ""
    return runs


class Conv:
    def __init__(self, name):
        self.name, self.id, self.lines = name, None, []

    def digest(self):
        """False: nobody says anything."""
        lines = map(json.loads, self.lines)
        self.texts = [line["text"] for line in lines if "type" not in line]
        self.visible = [visible(text) for text in self.texts]
        self.words = collections.defaultdict(set)
        for i, text in enumerate(self.texts):
            for word in words_of(text):
                self.words[norm(word)].add(i)
        return len(self.texts) > 0

    def with_word(self, word):
        return [self.texts[i] for i in self.words.get(norm(word), ())]

    def with_part(self, part):
        part = visible(part)
        return [self.texts[i] for i, text in enumerate(self.visible) if part in text]


# ---- texts ----


def sentences():
    """A conversation for each language, and one of all of them."""
    convs, mixed = {}, Conv("recall/mixed")
    with open("tests/data/sentences.txt", encoding="utf-8") as file:
        for i, line in enumerate(file):
            lang, text = line.rstrip("\n").split("\t")
            one = {"ts": 1700000000000 + 60000 * i, "from": f"{lang}-{i % 3}", "text": text, "reply_to": None}
            name = "recall/" + lang
            convs.setdefault(name, Conv(name)).lines.append(json.dumps({"conv": name, **one}))
            mixed.lines.append(json.dumps({"conv": mixed.name, **one}))
    return [*convs.values(), mixed]


def archive(name):
    convs = {}
    with subprocess.Popen(["zstd", "-dcq", f"{FOLDER}/{name}"], stdout=subprocess.PIPE, text=True) as zstd:
        for line in zstd.stdout:
            conv = line.split('"', 4)[3]
            convs.setdefault(conv, Conv(conv)).lines.append(line.rstrip("\n"))
    assert zstd.returncode == 0, name
    return list(convs.values())


def collect(dice, everything):
    convs = sentences()
    here = [f for f in ("chat-en.jsonl.zst", "chat-multi.jsonl.zst") if os.access(f"{FOLDER}/{f}", os.R_OK)]
    for name in here:
        found = archive(name)
        convs += found if everything else small_part(dice, found)
    if len(here) < 2:
        print(f"the full data set is not in {FOLDER}: the sentences of tests/data alone")
    return [conv for conv in convs if conv.digest()]


def small_part(dice, convs):
    """Of each language, or source, some."""
    left, part = collections.Counter(), []
    dice.shuffle(convs)
    for conv in convs:
        lang = json.loads(conv.lines[0]).get("lang"), conv.name.split("/")[0]
        if left[lang] < SAMPLE and len(conv.lines) < SAMPLE_MOST:
            left[lang] += len(conv.lines)
            part.append(conv)
    return part


# ---- the server ----


class Server:
    def __init__(self):
        url = urllib.parse.urlparse(os.environ["LOQUAT_URL"])
        self.http = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        self.headers = {"Authorization": "Bearer " + os.environ["LOQUAT_TOKEN"]}

    def get(self, path, **query):
        self.http.request("GET", f"{path}?{urllib.parse.urlencode(query)}", headers=self.headers)
        response = self.http.getresponse()
        body = response.read()
        assert response.status == 200, (path, query, response.status, body)
        return json.loads(body)

    def ids(self):
        found, page = {}, {}
        while page is not None:
            answer = self.get("/v1/conversations", limit=200, **page)
            found.update((conv["name"], conv["c"]) for conv in answer["convs"])
            page = {"page": answer["next"]} if answer.get("next") else None
        return found

    def search(self, q, conv=None):
        """Every page: texts, how often each; and whether the index was behind."""
        found, seen, page, behind = collections.Counter(), set(), {}, 0
        where = {"c": conv} if conv else {}
        while page is not None:
            answer = self.get("/v1/search", q=q, limit=PAGE, **where, **page)
            assert answer["indexed"]["complete"], (q, conv)
            behind = max(behind, answer["indexed"]["behind"])
            for hit in answer["hits"]:
                place = hit["c"], hit["s"]
                assert place not in seen, f"{q}: twice: {hit}"
                seen.add(place)
                found[hit["record"]["body"]["text"]] += 1
            page = {"page": answer["next"]} if answer["next"] else None
        return found, behind


def load(log, scratch, convs):
    path = f"{scratch}/recall.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for conv in convs:
            file.writelines(line + "\n" for line in conv.lines)
    subprocess.run([log, "import", path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# ---- queries ----


class Asker:
    def __init__(self, server, dice):
        self.server, self.dice = server, dice
        self.asked, self.behind, self.misses = collections.Counter(), 0, 0

    def draw(self, conv):
        """A query, and of which conversation it must find what; None: this message has none."""
        text = self.dice.choice(conv.texts)
        runs, words = runs_of(text), words_of(text)
        if runs and self.dice.random() < 0.7:
            run = self.dice.choice(runs)
            size = self.dice.randint(2, min(len(run), self.dice.choice((2, 3, 4, 6, 12, 40))))
            at = self.dice.randint(0, len(run) - size)
            return run[at : at + size], Conv.with_part
        words = [word for word in words if len(word) <= 200]
        if not words:
            return None
        word = self.dice.choice(words)
        return self.dice.choice((str, str.upper, str.lower, str.title, norm))(word), Conv.with_word

    def ask(self, convs, everywhere):
        """One query in one of the conversations, or in all; gives how far behind the index was."""
        conv = self.dice.choice(convs)
        drawn = self.draw(conv)
        if drawn is None:
            return 0
        q, finder = drawn
        among = convs if everywhere else [conv]
        wanted = collections.Counter(text for one in among for text in finder(one, q))
        if wanted.total() > HITS_MOST:
            return 0
        found, behind = self.server.search(q, None if everywhere else conv.id)
        self.asked[finder.__name__, everywhere] += 1
        self.behind += behind > 0
        for text in wanted - found:
            self.misses += 1
            if self.misses <= MISSES_SHOWN:
                where = "all" if everywhere else conv.name
                codes = " ".join(f"{ord(c):04x}" for c in q[:20])
                print(f"MISS {finder.__name__} in {where}, {behind} behind: {q!r} ({codes}): {text[:300]!r}")
        return behind


def check(name, fine):
    print(("ok    " if fine else "FAIL  ") + name, flush=True)
    return fine


def main():
    options = argparse.ArgumentParser()
    options.add_argument("log")
    options.add_argument("scratch")
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--queries", type=int, default=1500)
    options.add_argument("--all", action="store_true", help="the whole data set")
    options = options.parse_args()
    print(f"seed {options.seed}")
    dice = random.Random(options.seed)
    convs = collect(dice, options.all)
    server = Server()
    sizes = list(range(0, len(convs) + 1, max(1, len(convs) // SEGMENTS)))
    if sizes[-1] != len(convs):
        sizes.append(len(convs))

    behind = Asker(server, dice)
    for first, until in zip(sizes, sizes[1:]):
        load(options.log, options.scratch, convs[first:until])
        ids = server.ids()
        for conv in convs[first:until]:
            conv.id = ids[conv.name]
        most = options.queries // 2 // min(SEGMENTS, len(convs))
        while most > 0 and behind.ask(convs[first:until], False) > 0:
            most -= 1
    while server.search("recall")[1] > 0:
        pass
    after = Asker(server, dice)
    late = 0
    for i in range(options.queries):
        late += after.ask(convs, i % 4 == 0)

    messages = sum(len(conv.texts) for conv in convs)
    print(f"{messages} messages in {len(convs)} conversations")
    fine = [
        check(f"behind the index: {behind.misses} missed; {behind.behind} of {behind.asked.total()} queries "
              "came before it", behind.misses == 0 and behind.behind >= min(BEHIND_LEAST, options.queries // 4)),
        check(f"in the index: {after.misses} missed; {dict(after.asked)}", after.misses == 0),
        check("it had caught up", late == 0),
    ]  # fmt: skip
    print(f"{sum(fine)} passed, {len(fine) - sum(fine)} failed")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    raise SystemExit(main())
