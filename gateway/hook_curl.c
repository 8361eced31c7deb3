#include "gateway/hook_curl.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/base/check.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum { CONNECTIONS_KEPT = 64, HEADER_MAX = 256, MAC_SIZE = 32, MAC_TEXT_SIZE = 44 };

/* ---- libcurl's sockets and timer on the loop ---- */

struct poll {
    uv_poll_t handle;
    struct hook_curl *curl;
    curl_socket_t fd;
};

static void take_done(struct hook_curl *curl);

static void act(struct hook_curl *curl, curl_socket_t fd, int events)
{
    int running = 0;
    (void)curl_multi_socket_action(curl->multi, fd, events, &running);
    take_done(curl);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct poll *poll = handle->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    act(poll->curl, poll->fd, flags);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct poll *poll = handle->data;
    poll->curl->polls--;
    free(poll);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_fd)
{
    (void)easy;
    struct hook_curl *curl = arg;
    struct poll *poll = of_fd;
    if (what == CURL_POLL_REMOVE) {
        if (poll == NULL)
            return 0;
        curl_multi_assign(curl->multi, fd, NULL);
        uv_poll_stop(&poll->handle);
        uv_close((uv_handle_t *)&poll->handle, on_poll_closed);
        return 0;
    }
    if (poll == NULL) {
        poll = xcalloc(1, sizeof *poll);
        poll->curl = curl;
        poll->fd = fd;
        poll->handle.data = poll;
        if (uv_poll_init_socket(curl->loop, &poll->handle, fd) != 0) {
            free(poll);
            return -1;
        }
        curl->polls++;
        curl_multi_assign(curl->multi, fd, poll);
    }
    uv_poll_start(&poll->handle,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_poll);
    return 0;
}

static void on_curl_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timeout(CURLM *multi, long ms, void *arg)
{
    (void)multi;
    struct hook_curl *curl = arg;
    if (ms < 0)
        uv_timer_stop(&curl->timer);
    else /* never from in here: libcurl would be called by itself */
        uv_timer_start(&curl->timer, on_curl_timer, ms == 0 ? 1 : (uint64_t)ms, 0);
    return 0;
}

void hook_curl_open(struct hook_curl *curl, uv_loop_t *loop, const struct hook_rules *rules,
                    const char *ca_file)
{
    *curl = (struct hook_curl){.loop = loop, .rules = rules, .ca_file = ca_file};
    curl->multi = curl_multi_init();
    if (curl->multi == NULL)
        check_no_memory(0);
    uv_timer_init(loop, &curl->timer);
    curl->timer.data = curl;
    curl->timer_open = true;
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
}

static void on_timer_closed(uv_handle_t *handle)
{
    ((struct hook_curl *)handle->data)->timer_open = false;
}

void hook_curl_close(struct hook_curl *curl)
{
    curl_multi_cleanup(curl->multi); /* closes what was kept open */
    curl->multi = NULL;
    uv_close((uv_handle_t *)&curl->timer, on_timer_closed);
}

bool hook_curl_closed(const struct hook_curl *curl)
{
    return curl->multi == NULL && !curl->timer_open && curl->polls == 0;
}

/* ---- a request ---- */

static void release(struct hook_post *post)
{
    curl_multi_remove_handle(post->curl->multi, post->easy);
    curl_easy_cleanup(post->easy);
    curl_slist_free_all(post->headers);
    post->easy = NULL;
    post->headers = NULL;
}

static void end(struct hook_post *post, CURLcode result)
{
    long status = 0;
    curl_off_t after_s = 0;
    char why[CURL_ERROR_SIZE];
    curl_easy_getinfo(post->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(post->easy, CURLINFO_RETRY_AFTER, &after_s);
    /* Whoever says yes has it, whatever else he says and does not end. */
    if (result != CURLE_OK && (status < 200 || status > 299))
        status = 0;
    if (post->refused)
        snprintf(why, sizeof why, "%s",
                 post->plain ? "http, and its address is in no network of --webhook-allow"
                             : "its address is not of the public internet, and in no network of "
                               "--webhook-allow");
    else
        snprintf(why, sizeof why, "%s", post->why[0] != 0 ? post->why : curl_easy_strerror(result));
    release(post);
    post->done(post, status, after_s > 0 ? (uint64_t)after_s : 0, why);
}

static void take_done(struct hook_curl *curl)
{
    CURLMsg *message;
    int left = 0;
    while ((message = curl_multi_info_read(curl->multi, &left)) != NULL) {
        struct hook_post *post = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&post);
        end(post, result);
    }
}

static size_t on_answer(char *bytes, size_t size, size_t count, void *arg)
{
    (void)bytes;
    struct hook_post *post = arg;
    post->answered += size * count;
    return post->answered <= HOOK_ANSWER_MAX ? size * count : 0;
}

static curl_socket_t on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct hook_post *post = arg;
    const struct hook_rules *rules = post->curl->rules;
    bool fine = purpose == CURLSOCKTYPE_IPCXN &&
                (post->plain ? hook_address_named(rules, &address->addr)
                             : hook_address_allowed(rules, &address->addr));
    if (!fine) {
        post->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void add_header(struct hook_post *post, const char *text)
{
    struct curl_slist *grown = curl_slist_append(post->headers, text);
    if (grown == NULL)
        check_no_memory(0);
    post->headers = grown;
}

static void sign(struct hook_post *post, struct span body, struct span key, const char *id)
{
    char header[HEADER_MAX], moment[24];
    unsigned char mac[MAC_SIZE], text[MAC_TEXT_SIZE + 1];
    size_t n = 0;
    struct buf signed_text = {0};
    snprintf(moment, sizeof moment, "%llu", (unsigned long long)(clock_wall_ms() / 1000));
    buf_addf(&signed_text, "%s.%s.", id, moment);
    buf_add_span(&signed_text, body);
    if (EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key.p, key.n,
                  (const unsigned char *)signed_text.p, signed_text.n, mac, sizeof mac, &n) == NULL)
        check_no_memory(0);
    (void)EVP_EncodeBlock(text, mac, (int)n);
    buf_close(&signed_text);
    snprintf(header, sizeof header, "webhook-id: %s", id);
    add_header(post, header);
    snprintf(header, sizeof header, "webhook-timestamp: %s", moment);
    add_header(post, header);
    snprintf(header, sizeof header, "webhook-signature: v1,%s", (char *)text);
    add_header(post, header);
    add_header(post, "Content-Type: application/json");
    add_header(post, "Expect:");
}

static void set_options(struct hook_post *post, const char *url, struct span body)
{
    CURL *easy = post->easy;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, post);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, post->why);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY,
                     ""); /* none of the environment: it would be asked for any */
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "loquat");
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, post->headers);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.p);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, post);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, post);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)HOOK_POST_MS);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)HOOK_CONNECT_MS);
    if (post->curl->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, post->curl->ca_file);
}

int hook_post_start(struct hook_post *post, struct hook_curl *curl, const char *url,
                    struct span body, struct span key, const char *id)
{
    ASSERT(post->easy == NULL);
    post->curl = curl;
    post->easy = curl_easy_init();
    if (post->easy == NULL)
        return ERR_BUSY;
    post->answered = 0;
    post->refused = false;
    post->plain = strncasecmp(url, "http:", 5) == 0;
    post->why[0] = '\0';
    sign(post, body, key, id);
    set_options(post, url, body);
    if (curl_multi_add_handle(curl->multi, post->easy) == CURLM_OK)
        return 0;
    release(post);
    return ERR_BUSY;
}

void hook_post_stop(struct hook_post *post)
{
    if (post->easy != NULL)
        release(post);
}
