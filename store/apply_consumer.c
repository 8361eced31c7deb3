/* store/apply_consumer.c: named readers of the feed. Partition 0 holds who they are and which
 * workers share each; every partition holds up to where each has read it. A worker takes a
 * partition under the generation in which it got it: those of older generations can't move the
 * cursor any more, so two that believe they have the same one never both do. */
#include "store/base/err.h"
#include "store/feedlog.h"
#include "store/state.h"

enum {
    WORKERS_MAX = 64, /* of a consumer */
    WORKER_TTL_MAX_MS = 600000,
};

static bool named(struct apply *apply, const Loquat__Command *command)
{
    if (user_valid(span_str(command->consumer)))
        return true;
    (void)state_refuse(apply, ERR_BAD_REQUEST,
                       "a consumer has a name: 1 to 64 of A-Z a-z 0-9 . _ @ -");
    return false;
}

/* ERR_NOT_FOUND. */
static int load_consumer(struct apply *apply, const char *name, Loquat__Consumer **consumer)
{
    struct key key = key_named(apply->partition, KEY_TAG_CONSUMER, span_str(name));
    int err = state_get(apply, KV_APL, key_span(&key), &apply->value);
    if (err != 0)
        return err;
    *consumer = loquat__consumer__unpack(&apply->arena.allocator, apply->value.n,
                                         (const uint8_t *)apply->value.p);
    return *consumer != NULL ? 0 : ERR_CORRUPT;
}

static void save_consumer(struct apply *apply, const Loquat__Consumer *consumer)
{
    state_put_message(apply, KV_APL,
                      key_named(apply->partition, KEY_TAG_CONSUMER, span_str(consumer->name)),
                      &consumer->base);
}

/* How many there are stands in the row without a name: what is in the batch can't be counted. */
static int move_count(struct apply *apply, int by, bool *full)
{
    struct key key = key_named(apply->partition, KEY_TAG_CONSUMER, (struct span){0});
    uint64_t count = 0;
    int err = state_get(apply, KV_APL, key_span(&key), &apply->value);
    if (err == 0 && apply->value.n != 8)
        err = ERR_CORRUPT;
    if (err == 0)
        count = get_le64(apply->value.p);
    if (err != 0 && err != ERR_NOT_FOUND)
        return err;
    *full = by > 0 && count >= FEEDLOG_CONSUMERS_MAX;
    char value[8];
    put_le64(value, count + (uint64_t)(int64_t)by);
    if (!*full)
        state_put(apply, KV_APL, key_span(&key), span_of(value, sizeof value));
    return 0;
}

/* ---- who they are ---- */

int apply_op_consumer(struct apply *apply, const Loquat__Command *command)
{
    Loquat__Consumer *consumer = NULL;
    bool full = false;
    if (!named(apply, command))
        return 0;
    int err = load_consumer(apply, command->consumer, &consumer);
    apply->result->dup = err == 0;
    if (err == ERR_NOT_FOUND) {
        err = move_count(apply, 1, &full);
        if (full)
            return state_refuse(apply, ERR_TOO_LARGE, "there are as many consumers as can be");
        consumer = arena_alloc(&apply->arena, sizeof *consumer);
        loquat__consumer__init(consumer);
        consumer->name = command->consumer;
        consumer->by = command->user;
        consumer->created = apply->now_ms;
    }
    if (err != 0)
        return err;
    Loquat__Webhook *before = consumer->webhook;
    bool keeps = command->on && command->webhook != NULL && before != NULL;
    consumer->webhook = command->webhook;
    if (keeps)
        command->webhook->key = before->key;
    apply->result->n =
        command->webhook != NULL && !keeps; /* whether the key of the command is in use */
    save_consumer(apply, consumer);
    return 0;
}

static size_t worker_at(const Loquat__Consumer *consumer, const char *name)
{
    size_t i = 0;
    while (i < consumer->n_workers && strcmp(consumer->workers[i]->name, name) < 0)
        i++;
    return i;
}

/* Those that were not heard of in time. */
static bool drop_late(struct apply *apply, Loquat__Consumer *consumer)
{
    size_t kept = 0, before = consumer->n_workers;
    for (size_t i = 0; i < before; i++)
        if (consumer->workers[i]->until > apply->now_ms)
            consumer->workers[kept++] = consumer->workers[i];
    consumer->n_workers = kept;
    return kept != before;
}

static void add_worker(struct apply *apply, Loquat__Consumer *consumer, size_t at, char *name)
{
    size_t n = consumer->n_workers;
    Loquat__Worker **grown = arena_alloc(&apply->arena, (n + 1) * sizeof *grown);
    for (size_t i = 0; i < n; i++)
        grown[i < at ? i : i + 1] = consumer->workers[i];
    grown[at] = arena_alloc(&apply->arena, sizeof **grown);
    loquat__worker__init(grown[at]);
    grown[at]->name = name;
    consumer->workers = grown;
    consumer->n_workers++;
}

int apply_op_worker(struct apply *apply, const Loquat__Command *command)
{
    Loquat__Consumer *consumer = NULL;
    if (!user_valid(span_str(command->worker)) || command->ttl_ms > WORKER_TTL_MAX_MS)
        return state_refuse(apply, ERR_BAD_REQUEST,
                            "a worker has a name, and is heard of every 10 minutes at least");
    int err = load_consumer(apply, command->consumer, &consumer);
    if (err == ERR_NOT_FOUND)
        return state_refuse(apply, ERR_NOT_FOUND, "no such consumer");
    if (err != 0)
        return err;
    bool changed = drop_late(apply, consumer);
    size_t at = worker_at(consumer, command->worker), n = consumer->n_workers;
    bool there = at < n && strcmp(consumer->workers[at]->name, command->worker) == 0;
    if (there && command->ttl_ms == 0) {
        for (size_t i = at; i + 1 < n; i++)
            consumer->workers[i] = consumer->workers[i + 1];
        consumer->n_workers--;
        changed = true;
    } else if (!there && command->ttl_ms != 0) {
        if (n == WORKERS_MAX)
            return state_refuse(apply, ERR_TOO_LARGE, "the consumer has as many workers as can be");
        add_worker(apply, consumer, at, command->worker);
        changed = true;
    }
    if (command->ttl_ms != 0)
        consumer->workers[at]->until = apply->now_ms + command->ttl_ms;
    if (changed) /* never one that was: not after it was made anew either */
        consumer->generation =
            consumer->generation < apply->now_ms ? apply->now_ms : consumer->generation + 1;
    save_consumer(apply, consumer);
    apply->result->seq = consumer->generation;
    return 0;
}

int apply_op_consumer_drop(struct apply *apply, const Loquat__Command *command)
{
    struct span name = span_str(command->consumer);
    struct key cursor = key_named(apply->partition, KEY_TAG_CURSOR, name);
    struct key consumer = key_named(apply->partition, KEY_TAG_CONSUMER, name);
    bool full = false;
    if (!named(apply, command))
        return 0;
    state_delete(apply, KV_APL, key_span(&cursor));
    if (apply->partition != 0)
        return 0;
    int err = state_get(apply, KV_APL, key_span(&consumer), &apply->value);
    if (err == ERR_NOT_FOUND)
        return state_refuse(apply, ERR_NOT_FOUND, "no such consumer");
    if (err != 0)
        return err;
    state_delete(apply, KV_APL, key_span(&consumer));
    return move_count(apply, -1, &full);
}

/* ---- up to where ---- */

static uint64_t here(const struct apply *apply)
{
    return (apply->entry_index << FEEDLOG_BITS) + apply->feed_total - 1;
}

/* False: the result says why it does not move. */
static bool step_on(struct apply *apply, Loquat__Cursor *cursor, const Loquat__Command *command)
{
    bool late = command->generation < cursor->generation;
    switch (command->step) {
    case LOQUAT__CURSOR_STEP__CURSOR_SET:
        cursor->offset = command->offset;
        return true;
    case LOQUAT__CURSOR_STEP__CURSOR_TAKE:
    case LOQUAT__CURSOR_STEP__CURSOR_MOVE:
        break;
    default:
        (void)state_refuse(apply, ERR_BAD_REQUEST, "unknown step of a cursor");
        return false;
    }
    if (late) {
        (void)state_refuse(apply, ERR_CONFLICT, "another worker has this partition now");
        return false;
    }
    cursor->generation = command->generation;
    if (command->step == LOQUAT__CURSOR_STEP__CURSOR_TAKE)
        return true;
    if (command->on && cursor->offset != command->was && cursor->offset != command->offset) {
        (void)state_refuse(apply, ERR_CONFLICT, "the cursor was set to another place meanwhile");
        return false;
    }
    cursor->offset = command->offset;
    return true;
}

int apply_op_cursor(struct apply *apply, const Loquat__Command *command)
{
    struct key key = key_named(apply->partition, KEY_TAG_CURSOR, span_str(command->consumer));
    bool begins = command->step == LOQUAT__CURSOR_STEP__CURSOR_BEGIN ||
                  command->step == LOQUAT__CURSOR_STEP__CURSOR_BEGIN_NOW;
    if (!named(apply, command))
        return 0;
    if (command->offset > here(apply))
        return state_refuse(apply, ERR_BAD_REQUEST, "the offset lies ahead of the feed");
    int err = state_get_or_empty(apply, KV_APL, key);
    if (err != 0)
        return err;
    bool there = apply->value.n > 0;
    Loquat__Cursor *cursor = loquat__cursor__unpack(&apply->arena.allocator, apply->value.n,
                                                    (const uint8_t *)apply->value.p);
    if (cursor == NULL)
        return ERR_CORRUPT;
    if (!there && !begins)
        return state_refuse(apply, ERR_NOT_FOUND, "no such consumer");
    if (!there)
        cursor->offset =
            command->step == LOQUAT__CURSOR_STEP__CURSOR_BEGIN_NOW ? here(apply) : command->offset;
    else if (!begins && !step_on(apply, cursor, command))
        return 0;
    if (!there || !begins) {
        cursor->ts = apply->now_ms;
        state_put_message(apply, KV_APL, key, &cursor->base);
    }
    apply->result->seq = cursor->offset;
    apply->result->n = cursor->generation;
    return 0;
}
