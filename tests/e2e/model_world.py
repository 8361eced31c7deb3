"""What conversations must be: a simple model, from docs/PROTOCOL.md, one operation after the other.

`plan` says what an operation must be answered, and changes nothing; `commit` does it, with the ids
and times of the server's answer. `conv`, `view`, `members`, `seen`, `threads` and their like are
what reads must give.

Where the page says nothing, the model has what the server does:
- a member's marks begin at the record of the joining, which is `since` where `history` is `joined`
- scope `admin` can delete, pin and set in direct conversations, too, but not edit
- admins may take themselves out, and give up their role
- who leaves writes a `member` record that removes him
- an edit or a reaction expires with its message; of a deleted one, edits are holes, reactions stay
- what was deleted and then expires is a hole `expired`, and can't be deleted again
- `replies` count expired ones
- a thread can hang on an expired message, not on a deleted one
- what `hidden` hides can be reacted to and answered
- setting by `prefs` what is so already is no entry of the user log
"""

from model_effects import Effects
from model_reads import Reads
from model_rules import Rules


class Model(Rules, Effects, Reads):
    def __init__(self, group_max):
        self.group_max = group_max
        self.convs, self.opened, self.logs = {}, {}, {}
        self.group = 0  # operations that were one after the other have different ones
        self.blocked = {}  # user → {whom, in the order of the blocks}

    def entry(self, user, kind, body):
        self.logs.setdefault(user, []).append((self.group, kind, body))

    def blocks(self, user, other):
        return other in self.blocked.get(user, {})
