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
- setting by `prefs` what is so already is no entry of the user log; nor is blocking twice
- `hidden` of `prefs` and the message that ends it are compared by the millisecond
- what was deleted or has expired can still be deleted for oneself, and stays a hole of that kind
- what a user has deleted for himself can be reacted to by him, names its thread, and stays pinned;
  later changes to it come in full to a device that is live, and are holes in `range`
- scope `admin` deletes nothing for himself in a conversation that he is not in
- a place in a thread counts up to the joining at least, whoever comes back keeps it
- a thread stays listed when its messages are deleted; `last` may be a deleted one
- threads whose root is `hidden` by `history` are not listed, and have no messages
- in `range` with `thread`, deleted messages are left out; expired ones, and those that the user has
  deleted for himself, are holes
- `members` with `at` before what the reader may read is `not_found`
- an invite that was used up or has ended can be taken back until another one is made
- `invite` under the `cid` of a message that was deleted is `not_found`
- `join` under a `cid` that was used for something else is a `conflict`, even of who is in; under
  that of a joining after which one left, `not_found`
- who was blocked is answered `forbidden` for `member`, `invite` and `uninvite`, too, where
  others get `bad_request`; but may `open` what is there
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
