#include "bench/lib/town.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/town_life.h"

enum { TICK_MS = 1, SETTLE_TURN_MS = 20 };

static void person_name(size_t number, char *name, size_t size)
{
    snprintf(name, size, "person%04zu", number);
}

static void witness_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "witness");
}

static void keeper_name(size_t number, char *name, size_t size)
{
    (void)number;
    snprintf(name, size, "keeper");
}

/* Pairs of neighbours; tens that overlap by half; fifties; the hall. */
static void plan_convs(struct town *town, size_t people)
{
    const size_t sizes[TOWN_SIZES] = {2, 10, 50, people}, steps[TOWN_SIZES] = {2, 5, 50, people};
    for (size_t i = 0; i < TOWN_SIZES; i++)
        town->first_of[i + 1] = town->first_of[i] + people / steps[i];
    town->convs_count = town->first_of[TOWN_SIZES];
    town->convs = xcalloc(town->convs_count, sizeof *town->convs);
    for (size_t i = 0; i < TOWN_SIZES; i++) {
        for (size_t c = town->first_of[i]; c < town->first_of[i + 1]; c++) {
            struct town_conv *conv = &town->convs[c];
            char cid[32];
            snprintf(cid, sizeof cid, "town%zu", c);
            group_id(span_str("keeper"), span_str(cid), conv->id);
            conv->size = i;
            conv->members = xcalloc(sizes[i] + TOWN_TENS_MAX, sizeof *conv->members);
            for (size_t k = 0; k < sizes[i]; k++)
                conv->members[conv->count++] =
                    (uint32_t)(((c - town->first_of[i]) * steps[i] + k) % people);
        }
    }
}

static void open_conv(struct town *town, size_t number)
{
    struct town_conv *conv = &town->convs[number];
    struct buf text = {0};
    buf_addf(&text,
             "{\"id\":1,\"op\":\"open\",\"kind\":\"group\",\"name\":\"town\",\"cid\":\"town%zu\","
             "\"members\":[\"witness\"",
             number);
    for (size_t i = 0; i < conv->count; i++) {
        char name[64];
        person_name(conv->members[i], name, sizeof name);
        buf_addf(&text, ",\"%s\"", name);
        follower_follow(&town->people.each[conv->members[i]], conv->id, 1);
    }
    buf_add_str(&text, "]}");
    buf_add_byte(&text, 0);
    sock_do(&town->keeper, text.p);
    buf_close(&text);
    follower_follow(&town->witness.each[0], conv->id, 1);
    conv->head = conv->written = 1;
}

void town_open(struct town *town, struct gateway *gateway, uv_loop_t *loop, size_t people)
{
    *town = (struct town){.gateway = gateway, .loop = loop};
    struct followers *both[] = {&town->people, &town->witness};
    for (int i = 0; i < 2; i++) {
        *both[i] = (struct followers){.gateway = gateway,
                                      .loop = loop,
                                      .user = i == 0 ? person_name : witness_name,
                                      .page = 1000,
                                      .data = town,
                                      .on_record = town_on_record,
                                      .on_answer = town_on_answer,
                                      .on_live = i == 0 ? town_on_live : NULL};
        followers_open(both[i], i == 0 ? people : 1);
    }
    town->persons = xcalloc(people, sizeof *town->persons);
    plan_convs(town, people);
    struct sock_plan plan = {.gateway = gateway,
                             .loop = loop,
                             .user = keeper_name,
                             .scope = "admin",
                             .on_line = town_keeper_on_line};
    sock_open(&town->keeper, 0, 1, &plan);
    for (size_t i = 0; i < town->convs_count; i++)
        open_conv(town, i);
    town->keeper.data = town;
    town->tick.data = town;
    uv_timer_init(loop, &town->tick);
    uv_timer_start(&town->tick, town_on_tick, TICK_MS, TICK_MS);
    follower_come(&town->witness.each[0], 0);
    for (size_t i = 0; i < people; i++)
        follower_come(&town->people.each[i], 0);
}

static size_t late_logs(const struct town *town, struct follower *follower)
{
    size_t n = 0;
    for (size_t i = 0; i < follower->count; i++)
        n += !follower->logs[i].gone &&
             follower->logs[i].seen < town_conv_of(town, &follower->logs[i])->head;
    return n;
}

size_t town_behind(const struct town *town)
{
    size_t n = late_logs(town, &town->witness.each[0]) > 0;
    for (size_t i = 0; i < town->people.count; i++)
        n += late_logs(town, &town->people.each[i]) > 0;
    return n;
}

bool town_settle(struct town *town, double secs)
{
    const struct followers *people = &town->people;
    bool settled = false;
    town->rate = 0;
    town->unanswered_aim = 0;
    town->busy = false;
    for (double until = now_s() + secs; !settled && now_s() < until;) {
        net_run(town->loop, SETTLE_TURN_MS / 1000.0);
        settled = people->live == people->count && town->witness.live == 1 &&
                  town->unanswered == 0 && !town->keeper_waits && town_behind(town) == 0;
    }
    return settled;
}

size_t town_not_once(const struct town *town)
{
    size_t n = 0;
    for (size_t i = 0; i < town->convs_count; i++) {
        const struct town_conv *conv = &town->convs[i];
        const struct followed *log = follower_log(&town->witness.each[0], conv->id);
        n += log->seen < conv->written || log->seen > conv->written + conv->unsure;
    }
    return n;
}

size_t town_not_seen(const struct town *town)
{
    size_t n = 0;
    for (size_t i = 0; i < town->convs_count; i++)
        n += town->convs[i].unsure == 0 && town->convs[i].said_sum != town->convs[i].seen_sum;
    return n;
}

uint64_t town_records(const struct town *town)
{
    uint64_t n = 0;
    for (size_t i = 0; i < town->convs_count; i++)
        n += town->convs[i].written;
    return n;
}

void town_close(struct town *town)
{
    uv_close((uv_handle_t *)&town->tick, NULL);
    followers_close(&town->people);
    followers_close(&town->witness);
    sock_close_all(&town->keeper, 1, town->loop);
    for (size_t i = 0; i < town->people.count; i++)
        free(town->persons[i].writes);
    for (size_t i = 0; i < town->convs_count; i++)
        free(town->convs[i].members);
    free(town->persons);
    free(town->convs);
    series_close(&town->deliveries_ms);
    series_close(&town->acks_ms);
}
