#include "bench/lib/town_life.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/bare.h"
#include "store/base/clock.h"

enum {
    EVENT_US = 20000,
    STAMP_SIZE = 16,
    TEXT_MIN = 20,
    TEXT_SPREAD = 160,
    DOOMED_EACH = 16, /* every so many messages one that may be deleted */
    TRIES = 4,        /* to find somebody who is there */
    AWAY_MS = 3000,
    PAGE = 50,
    TENS_MIN = 4,
};
enum write_kind { SEND, EDIT, DELETE, LEAVE, RANGE };

struct town_write {
    uint64_t id, number, target, due_us;
    double again_s; /* to be sent again then; 0: not */
    uint32_t conv;
    uint8_t kind;
    bool sent_again;
};

static uint64_t roll(uint64_t sides)
{
    return random_u64() % sides;
}

static uint64_t mix(uint64_t number, uint64_t seq)
{
    uint64_t z = number * 0x9e3779b97f4a7c15 + seq;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    return z ^ z >> 27;
}

static void complain(struct town *town, const char *what, struct span line)
{
    town->wrong++;
    snprintf(town->why, sizeof town->why, "%s: %.*s", what, (int)(line.n < 200 ? line.n : 200),
             line.p);
}

static struct town *town_of(const struct follower *follower)
{
    return follower->all->data;
}

/* The conversation that it follows; found once. */
struct town_conv *town_conv_of(const struct town *town, struct followed *log)
{
    for (size_t i = 0; log->data == NULL && i < town->convs_count; i++)
        if (memcmp(town->convs[i].id, log->id, MADE_ID_SIZE) == 0)
            log->data = &town->convs[i];
    if (log->data == NULL)
        bench_fail("nobody opened %s", log->id);
    return log->data;
}

static bool is_in(struct follower *follower, const struct town_conv *conv)
{
    const struct followed *log = follower_log(follower, conv->id);
    return log != NULL && !log->gone;
}

/* ---- writing ---- */

static void send_write(struct town *town, struct follower *follower, const struct town_write *write)
{
    static const char *const ops[] = {"send", "edit", "delete", "leave", "range"};
    const struct person *person = &town->persons[follower->number];
    struct buf text = {0};
    buf_addf(&text, "{\"id\":%llu,\"op\":\"%s\",\"c\":\"%s\"", (unsigned long long)write->id,
             ops[write->kind], town->convs[write->conv].id);
    if (write->kind == RANGE)
        buf_addf(&text, ",\"from\":%llu,\"max\":%d,\"order\":\"%s\",\"view\":\"%s\"",
                 (unsigned long long)person->read_from, PAGE, person->read_down ? "desc" : "asc",
                 person->read_down ? "folded" : "log");
    else
        buf_addf(&text, ",\"cid\":\"%llu\"", (unsigned long long)write->number);
    if (write->kind == EDIT || write->kind == DELETE)
        buf_addf(&text, ",\"s\":%llu", (unsigned long long)write->target);
    if (write->kind == DELETE)
        buf_add_str(&text, ",\"for\":\"all\"");
    if (write->kind == EDIT)
        buf_addf(&text, ",\"body\":{\"text\":\"edited: %llu\"}", (unsigned long long)write->number);
    if (write->kind == SEND) {
        char words[BARE_TEXT];
        bench_text(write->number, words);
        buf_addf(&text, ",\"kind\":\"text\",\"body\":{\"text\":\"%0*llu %llu %.*s\"}", STAMP_SIZE,
                 (unsigned long long)write->due_us, (unsigned long long)write->number,
                 (int)(TEXT_MIN + write->number * 7919 % TEXT_SPREAD), words);
    }
    buf_add_byte(&text, '}');
    follower_ask(follower, buf_span(&text));
    buf_close(&text);
}

static void write_new(struct town *town, struct follower *follower, enum write_kind kind,
                      uint32_t conv, uint64_t target, uint64_t due_us)
{
    struct person *person = &town->persons[follower->number];
    if (person->writes == NULL)
        person->writes = xcalloc(TOWN_UNANSWERED_MAX, sizeof *person->writes);
    ASSERT(person->count < TOWN_UNANSWERED_MAX);
    struct town_write *write = &person->writes[person->count++];
    *write = (struct town_write){.id = FOLLOWER_ASKS + town->asked++,
                                 .number = ++town->number,
                                 .target = target,
                                 .due_us = due_us,
                                 .conv = conv,
                                 .kind = (uint8_t)kind};
    town->unanswered++;
    send_write(town, follower, write);
}

static void drop(struct town *town, struct person *person, size_t at)
{
    person->writes[at] = person->writes[--person->count];
    town->unanswered--;
}

static void member_gone(struct town_conv *conv, size_t number)
{
    for (size_t i = 0; i < conv->count; i++)
        if (conv->members[i] == number)
            conv->members[i] = conv->members[--conv->count];
}

static void took_message(struct town *town, struct person *person, const struct town_write *write,
                         uint64_t s)
{
    struct town_conv *conv = &town->convs[write->conv];
    bool doomed = write->number % DOOMED_EACH == 0;
    town->said++;
    town->text_bytes += STAMP_SIZE + 8 + TEXT_MIN + write->number * 7919 % TEXT_SPREAD;
    series_add(&town->acks_ms, ((double)clock_mono_us() - (double)write->due_us) / 1000);
    if (!doomed)
        conv->said_sum += mix(write->number, s);
    *(doomed ? &person->doomed_seq : &person->last_seq) = s;
    *(doomed ? &person->doomed_conv : &person->last_conv) = write->conv;
}

static void took(struct town *town, struct follower *follower, const struct town_write *write,
                 struct span line)
{
    struct town_conv *conv = &town->convs[write->conv];
    uint64_t s = line_number(line, "\"s\":");
    if (s == 0)
        complain(town, "no sequence", line);
    conv->written++;
    if (s > conv->head)
        conv->head = s;
    if (write->kind == SEND)
        took_message(town, &town->persons[follower->number], write, s);
    else if (write->kind == EDIT)
        town->edits++;
    else if (write->kind == DELETE)
        town->deletes++;
    else if (write->kind == LEAVE)
        town->leaves++;
    if (write->kind == LEAVE)
        member_gone(conv, follower->number);
}

/* The log upwards has every sequence; as people see it downwards, there is an order. */
static void took_page(struct town *town, const struct person *person, struct span line)
{
    static const char ITEM[] = "{\"c\":\"";
    uint64_t at = person->read_from, first, last;
    const char *end = line.p + line.n, *item = line_after(line, ITEM);
    town->pages++;
    for (; item != NULL; item = line_after(span_of(item, (size_t)(end - item)), ITEM)) {
        struct span rest = span_of(item, (size_t)(end - item));
        if (!line_item(rest, &first, &last) ||
            (person->read_down ? last > at || first > last : first != at)) {
            complain(town, person->read_down ? "not downwards" : "not dense", line);
            return;
        }
        at = person->read_down ? first - 1 : last + 1;
    }
}

/* A person who is out of a conversation meanwhile may not write there any more. */
static void took_error(struct town *town, struct follower *follower, size_t at, struct span line)
{
    struct person *person = &town->persons[follower->number];
    struct town_write *write = &person->writes[at];
    struct town_conv *conv = &town->convs[write->conv];
    const char *wait = line_after(line, "\"after_ms\":");
    town->refused++;
    if (wait != NULL) {
        write->again_s = now_s() + strtod(wait, NULL) / 1000;
        town->late = true;
        return;
    }
    if (conv->size != TOWN_TENS || line_after(line, "\"not_found\"") == NULL)
        complain(town, "refused", line);
    conv->unsure += write->sent_again;
    drop(town, person, at);
}

void town_on_answer(struct follower *follower, uint64_t id, struct span line)
{
    struct town *town = town_of(follower);
    struct person *person = &town->persons[follower->number];
    size_t at = 0;
    while (at < person->count && person->writes[at].id != id)
        at++;
    if (at == person->count) {
        complain(town, "an answer to nothing", line);
        return;
    }
    struct town_write write = person->writes[at];
    if (write.kind == RANGE)
        person->reading = false;
    if (line_after(line, ",\"ok\":") == NULL) {
        took_error(town, follower, at, line);
        return;
    }
    drop(town, person, at);
    if (write.kind == RANGE)
        took_page(town, person, line);
    else
        took(town, follower, &write, line);
}

/* What was not answered is sent again; nobody waits for the page any more. */
void town_on_live(struct follower *follower, struct span line)
{
    (void)line;
    struct town *town = town_of(follower);
    struct person *person = &town->persons[follower->number];
    for (size_t i = person->count; i > 0; i--)
        if (person->writes[i - 1].kind == RANGE)
            drop(town, person, i - 1);
    person->reading = false;
    for (size_t i = 0; i < person->count; i++) {
        person->writes[i].sent_again = true;
        person->writes[i].again_s = 0;
        town->again++;
        send_write(town, follower, &person->writes[i]);
    }
}

static void send_late(struct town *town, double now)
{
    bool late = false;
    if (!town->late)
        return;
    for (size_t p = 0; p < town->people.count; p++) {
        struct person *person = &town->persons[p];
        for (size_t i = 0; i < person->count && town->people.each[p].live; i++) {
            struct town_write *write = &person->writes[i];
            late = late || write->again_s > now;
            if (write->again_s == 0 || write->again_s > now)
                continue;
            write->again_s = 0;
            write->sent_again = true;
            send_write(town, &town->people.each[p], write);
        }
    }
    town->late = late;
}

/* ---- reading ---- */

void town_on_record(struct follower *follower, struct followed *log, struct span item, bool live)
{
    struct town *town = town_of(follower);
    const char *text = line_after(item, "\"text\":\"");
    if (text == NULL || *text < '0' || *text > '9')
        return; /* an edit, or no message */
    char *end = NULL;
    uint64_t due_us = strtoull(text, &end, 10), number = strtoull(end, NULL, 10);
    if (follower->all == &town->witness) {
        if (number % DOOMED_EACH != 0)
            town_conv_of(town, log)->seen_sum += mix(number, log->seen);
    } else if (live && (double)due_us >= follower->live_s * 1e6) {
        series_add(&town->deliveries_ms, ((double)clock_mono_us() - (double)due_us) / 1000);
    }
}

/* ---- what happens ---- */

static void say_one(struct town *town, uint64_t due_us)
{
    static const unsigned shares[TOWN_SIZES] = {800, 970, 999, 1000};
    size_t size = 0, dice = roll(1000);
    while (dice >= shares[size])
        size++;
    town->due++;
    for (int i = 0; i < TRIES; i++) {
        size_t count = town->first_of[size + 1] - town->first_of[size];
        uint32_t at = (uint32_t)(town->first_of[size] + roll(count));
        const struct town_conv *conv = &town->convs[at];
        if (conv->count == 0)
            continue;
        uint32_t who = conv->members[roll(conv->count)];
        struct follower *follower = &town->people.each[who];
        if (!follower->live || !is_in(follower, conv) ||
            town->persons[who].count == TOWN_UNANSWERED_MAX)
            continue;
        write_new(town, follower, SEND, at, 0, due_us);
        return;
    }
    town->skipped++;
}

static void read_page(struct town *town, struct follower *follower)
{
    struct person *person = &town->persons[follower->number];
    if (person->reading || follower->count == 0)
        return;
    struct followed *log = &follower->logs[roll(follower->count)];
    if (log->gone || log->seen == 0)
        return;
    person->reading = true;
    person->read_from = 1 + roll(log->seen);
    person->read_down = roll(2) == 0;
    write_new(town, follower, RANGE, (uint32_t)(town_conv_of(town, log) - town->convs), 0, 0);
}

static void change_own(struct town *town, struct follower *follower, enum write_kind kind)
{
    struct person *person = &town->persons[follower->number];
    uint64_t *seq = kind == EDIT ? &person->last_seq : &person->doomed_seq;
    uint32_t conv = kind == EDIT ? person->last_conv : person->doomed_conv;
    if (*seq != 0 && is_in(follower, &town->convs[conv]))
        write_new(town, follower, kind, conv, *seq, 0);
    *seq = 0;
}

static void leave_one(struct town *town, struct follower *follower)
{
    for (size_t i = 0; i < follower->count; i++) {
        struct followed *log = &follower->logs[i];
        const struct town_conv *conv = log->gone ? NULL : town_conv_of(town, log);
        if (conv == NULL || conv->size != TOWN_TENS || conv->count <= TENS_MIN)
            continue;
        write_new(town, follower, LEAVE, (uint32_t)(conv - town->convs), 0, 0);
        return;
    }
}

static void keeper_changes(struct town *town)
{
    char name[64];
    size_t tens = town->first_of[TOWN_TENS + 1] - town->first_of[TOWN_TENS];
    if (town->keeper_waits)
        return;
    town->keeper_conv = (uint32_t)(town->first_of[TOWN_TENS] + roll(tens));
    const struct town_conv *conv = &town->convs[town->keeper_conv];
    town->keeper_adds = conv->count <= TENS_MIN || (conv->count < TOWN_TENS_MAX && roll(5) < 3);
    town->keeper_person =
        town->keeper_adds ? (uint32_t)roll(town->people.count) : conv->members[roll(conv->count)];
    town->people.user(town->keeper_person, name, sizeof name);
    struct buf text = {0};
    buf_addf(&text,
             "{\"id\":2,\"op\":\"member\",\"c\":\"%s\",\"cid\":\"%llu\",\"user\":\"%s\","
             "\"set\":\"%s\"}",
             conv->id, (unsigned long long)++town->number, name,
             town->keeper_adds ? "add" : "remove");
    sock_send(&town->keeper, buf_span(&text));
    net_flush(&town->keeper.net);
    buf_close(&text);
    town->keeper_waits = true;
}

void town_keeper_on_line(struct sock *sock, struct span line)
{
    struct town *town = sock->data;
    if (!LINE_BEGINS(line, "{\"id\":2,"))
        return;
    struct town_conv *conv = &town->convs[town->keeper_conv];
    uint64_t s = line_number(line, "\"s\":"); /* null, or an error: there was nothing to change */
    town->keeper_waits = false;
    if (line_after(line, "\"after_ms\":") != NULL)
        conv->unsure++; /* it is not asked again */
    if (s == 0)
        return;
    conv->written++;
    if (s > conv->head)
        conv->head = s;
    if (town->keeper_adds)
        conv->members[conv->count++] = town->keeper_person;
    else
        member_gone(conv, town->keeper_person);
    *(town->keeper_adds ? &town->joins : &town->leaves) += 1;
}

static void happen(struct town *town)
{
    struct follower *follower = &town->people.each[roll(town->people.count)];
    uint64_t dice = roll(100);
    if (dice < 7) {
        keeper_changes(town);
        return;
    }
    if (!follower->live || town->persons[follower->number].count == TOWN_UNANSWERED_MAX)
        return;
    if (dice < 12) {
        follower_go(follower, roll(2) == 0);
        follower_come(follower, (double)roll(AWAY_MS) / 1000);
        town->breaks++;
    } else if (dice < 15) {
        leave_one(town, follower);
    } else if (dice < 25) {
        change_own(town, follower, DELETE);
    } else if (dice < 50) {
        change_own(town, follower, EDIT);
    } else {
        read_page(town, follower);
    }
}

void town_on_tick(uv_timer_t *timer)
{
    struct town *town = timer->data;
    uint64_t now_us = clock_mono_us();
    if (town->rate == 0 || town->next_us == 0)
        town->next_us = (double)now_us;
    while (town->rate > 0 && town->next_us <= (double)now_us) {
        say_one(town, (uint64_t)town->next_us);
        town->next_us += 1e6 / town->rate;
    }
    for (size_t i = town->unanswered; i < town->unanswered_aim; i++)
        say_one(town, now_us);
    if (!town->busy)
        town->event_us = now_us;
    for (; town->busy && town->event_us <= now_us; town->event_us += EVENT_US)
        happen(town);
    send_late(town, (double)now_us / 1e6);
}
