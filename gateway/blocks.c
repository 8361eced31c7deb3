#include "gateway/blocks.h"

#include <stdlib.h>

#include "store/base/check.h"

struct blocks {
    size_t count, cap;
    char **users;
};

static size_t place_of(const struct blocks *blocks, struct span user)
{
    size_t i = 0;
    while (i < blocks->count && !span_is(user, blocks->users[i]))
        i++;
    return i;
}

bool blocks_has(const struct session *session, const char *user)
{
    return session->blocks != NULL &&
           place_of(session->blocks, span_str(user)) < session->blocks->count;
}

static void add(struct session *session, struct span user)
{
    if (session->blocks == NULL)
        session->blocks = xcalloc(1, sizeof *session->blocks);
    struct blocks *blocks = session->blocks;
    if (blocks->count == blocks->cap) {
        blocks->cap += blocks->cap / 2 + 1;
        blocks->users = xrealloc(blocks->users, blocks->cap * sizeof *blocks->users);
    }
    char *copy = xmalloc(user.n + 1);
    memcpy(copy, user.p, user.n);
    copy[user.n] = '\0';
    blocks->users[blocks->count++] = copy;
}

void blocks_change(struct session *session, struct span user, bool on)
{
    struct blocks *blocks = session->blocks;
    size_t at = blocks != NULL ? place_of(blocks, user) : 0;
    bool there = blocks != NULL && at < blocks->count;
    if (on && !there)
        add(session, user);
    if (on || !there)
        return;
    free(blocks->users[at]);
    blocks->users[at] = blocks->users[--blocks->count];
    if (blocks->count == 0)
        blocks_forget(session);
}

void blocks_set(struct session *session, const Loquat__UserSettings *settings)
{
    blocks_forget(session);
    for (size_t i = 0; i < settings->n_blocks; i++)
        add(session, span_str(settings->blocks[i]->user));
}

void blocks_forget(struct session *session)
{
    struct blocks *blocks = session->blocks;
    if (blocks == NULL)
        return;
    for (size_t i = 0; i < blocks->count; i++)
        free(blocks->users[i]);
    free(blocks->users);
    free(blocks);
    session->blocks = NULL;
}
