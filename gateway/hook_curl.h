/* gateway/hook_curl.h: requests of webhooks: libcurl on a loop. Each is signed as Standard Webhooks
 * has it: `webhook-signature: v1,` and base64 of HMAC-SHA256 over id, `.`, seconds, `.`, body.
 * No redirect is followed, no proxy asked; an address is looked at before it is connected to.
 * Thread: the loop's. curl_global_init was called.
 * Limits: HOOK_POST_MS for a request; of an answer nothing is kept, and HOOK_ANSWER_MAX read.
 * Rule:   a post that returns 0 calls back exactly once, later. */
#ifndef LOQUAT_GATEWAY_HOOK_CURL_H
#define LOQUAT_GATEWAY_HOOK_CURL_H

#include <curl/curl.h>
#include <uv.h>

#include "gateway/hook_rules.h"
#include "store/base/buf.h"

enum { HOOK_POST_MS = 15000, HOOK_CONNECT_MS = 5000, HOOK_ANSWER_MAX = 256 << 10 };

struct hook_curl {
    uv_loop_t *loop;
    uv_timer_t timer;
    CURLM *multi;
    const struct hook_rules *rules;
    const char *ca_file; /* NULL: the system's */
    int polls;           /* handles that are still open */
    bool timer_open;
};

struct hook_post {
    struct hook_curl *curl;
    CURL *easy; /* NULL: none is under way */
    struct curl_slist *headers;
    /* status 0: there was no answer, `why` says why not. after_s: what the answer asked for. */
    void (*done)(struct hook_post *post, long status, uint64_t after_s, const char *why);
    size_t answered;
    bool plain, refused; /* over http; its address may not be connected to */
    char why[CURL_ERROR_SIZE];
};

void hook_curl_open(struct hook_curl *curl, uv_loop_t *loop, const struct hook_rules *rules,
                    const char *ca_file);
void hook_curl_close(struct hook_curl *curl); /* no post is under way */
bool hook_curl_closed(const struct hook_curl *curl);

/* `url` and `body` stay until it has called back. 0 or ERR_BUSY. */
int hook_post_start(struct hook_post *post, struct hook_curl *curl, const char *url,
                    struct span body, struct span key, const char *id);
void hook_post_stop(struct hook_post *post); /* it does not call back */

#endif
