/* bench/replay.c: real conversations, played by live users. 2,000 (--conns) of them on WebSockets
 * at one server: the people of the busiest stretches of a chat archive (see script.h), and readers.
 * They say what those said, 50 times as fast, come and go as those did, and react, edit and send
 * files at the rates of a profile of another archive; a file is a message of kind x-file with its
 * size and a 256th of its bytes, as there are no uploads yet. Each user builds its own view of each
 * of its conversations of nothing but what comes to it. In the end, when all has come to all, every
 * user's view of every conversation is compared with the server's folded view, message by message
 * and field by field, and its own count of what is unread with the server's: the value is the
 * number of differences, and any but 0 fails the bench. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/archive.h"
#include "bench/lib/crowd.h"
#include "bench/lib/halts.h"
#include "bench/lib/play.h"

enum { USERS = 2000, SPEED = 50, SECS = 60, LINES_EACH_S = 250, SETTLE_S_MAX = 60 };

/* Returns whether they are the full ones. */
static bool read_data(struct play *play, size_t users)
{
    static const char NAME[] = "chat-en.jsonl.zst";
    char root[SCRATCH_MAX], path[SCRATCH_MAX + 64], beside[SCRATCH_MAX + 64];
    bench_dir(root);
    archive_find(root, path, sizeof path);
    size_t n = strlen(path);
    bool full = n > sizeof NAME && strcmp(path + n - (sizeof NAME - 1), NAME) == 0;
    int dir = full ? (int)(n - (sizeof NAME - 1)) : (int)n;
    snprintf(beside, sizeof beside, "%.*s%s", dir, path, full ? "discord-profile.json" : ".none");
    script_read(&play->script, path, play->secs, SPEED, users - 1,
                (size_t)(play->secs * LINES_EACH_S));
    profile_read(&play->profile, beside);
    bench_dir_drop(root);
    if (!full)
        bench_say("replay: the full data set is not there ($LOQUAT_DATASET): the sample, repeated");
    const struct script *script = &play->script;
    bench_say("replay: %zu lines of %zu conversations by %zu people, %.0f minutes of each at %d "
              "times their speed: %.0f lines a second; %llu joins, %llu parts, %llu quits, %llu "
              "nicks, %zu readers",
              script->count, script->convs_count, script->people_count, play->secs * SPEED / 60,
              SPEED, (double)script->count / play->secs,
              (unsigned long long)script->whats[SCRIPT_JOIN],
              (unsigned long long)script->whats[SCRIPT_PART],
              (unsigned long long)script->whats[SCRIPT_QUIT],
              (unsigned long long)script->whats[SCRIPT_NICK], users - 1 - script->people_count);
    return full;
}

static double perform(struct play *play, struct share *share)
{
    play_begin(play);
    share_begin(share, share->pid);
    double at = now_s();
    while (play->going) {
        net_run(play->loop, 0.1);
        (void)play_settled(play); /* what was refused is asked again */
        bench_progress("replay", (now_s() - at) / (play->secs + 5) < 1
                                     ? (now_s() - at) / (play->secs + 5)
                                     : 1);
    }
    play->ending = true;
    for (size_t i = 0; i < play->people.count; i++)
        if (!play->people.each[i].begun)
            follower_come(&play->people.each[i], 0);
    double until = now_s() + SETTLE_S_MAX;
    while (!play_settled(play) && now_s() < until)
        net_run(play->loop, 0.02);
    if (!play_settled(play))
        bench_fail("replay: after %d s not all has come: %llu are not answered, %llu of %zu live",
                   SETTLE_S_MAX, (unsigned long long)play->unanswered,
                   (unsigned long long)play->people.live, play->people.count);
    share_end(share);
    return now_s() - at;
}

static void print(struct play *play, const struct share *share, const struct halts *halts,
                  double secs, double check_s, bool full)
{
    const struct followers *people = &play->people;
    struct result result = {.bench = "replay",
                            .unit = "differences",
                            .ref_name = "none",
                            .lower = true,
                            .value = (double)play->differences};
    static const char *const NAMES[PLAY_HISTORY] = {
        "messages", "edits", "deletes", "reactions", "pins", "adds", "leaves", "topics", "marks"};
    buf_addf(&result.more, ",\"value_must\":0,\"holds\":%s",
             play->differences == 0 ? "true" : "false");
    result_add_text(&result, "data", full ? "full" : "sample");
    result_add(&result, "users", (double)people->count);
    result_add(&result, "conversations", (double)play->script.convs_count);
    result_add(&result, "speed", SPEED);
    result_add(&result, "secs", secs);
    for (size_t i = 0; i < PLAY_HISTORY; i++)
        result_add(&result, NAMES[i], (double)play->answers[i]);
    result_add(&result, "files", (double)play->files);
    result_add(&result, "delivered", (double)people->received);
    result_add(&result, "delivered_s", (double)people->received / secs);
    result_add(&result, "deliver_p50_ms", series_at(&play->latency_ms, 0.5));
    result_add(&result, "deliver_p99_ms", series_at(&play->latency_ms, 0.99));
    result_add(&result, "breaks", (double)play->breaks);
    result_add(&result, "lags", (double)people->lags);
    result_add(&result, "histories", (double)play->filled);
    result_add(&result, "sent_again", (double)play->again);
    result_add(&result, "refused", (double)play->refused);
    result_add(&result, "unsaid", (double)play->unsaid);
    result_add(&result, "missed", (double)people->missed);
    result_add(&result, "twice", (double)people->twice);
    result_add(&result, "compared", (double)play->checked_messages);
    result_add(&result, "compare_s", check_s);
    result_add(&result, "client_cpu", share->client);
    result_add(&result, "server_cpu", share->server);
    if (halts->known) {
        result_add(&result, "halted_ms_s", halts->share);
        result_add(&result, "halt_max_ms", halts->longest_ms);
    }
    result_print(&result);
}

int main(int argc, char **argv)
{
    static struct play play;
    static struct gateway gateway;
    static struct halts halts;
    struct share share = {0};
    struct bench_options options = bench_options(argc, argv, SECS);
    size_t users = crowd_fit(options.conns != 0 ? options.conns : USERS);
    play.secs = options.secs;
    bool full = read_data(&play, users);
    gateway_prepare(&gateway);
    gateway_start(&gateway, NULL);
    share.pid = gateway.pid;
    play_open(&play, &gateway, uv_default_loop(), users);
    bench_say("replay: %zu users are live", users);
    halts_begin(&halts);
    double secs = perform(&play, &share);
    halts_end(&halts);
    bench_say("replay: all has come to all: %llu records",
              (unsigned long long)play.people.received);
    uint64_t received = play.people.received;
    double at = now_s();
    play_check(&play);
    double check_s = now_s() - at;
    if (play.people.received != received)
        play_differs(&play, play.people.each, "after the end", 0, "more came", (struct span){0});
    play.differences += play.people.missed + play.people.twice;
    bool same = play.differences == 0;
    print(&play, &share, &halts, secs, check_s, full);
    play_close(&play);
    gateway_drop(&gateway);
    script_close(&play.script);
    return same ? 0 : 1;
}
