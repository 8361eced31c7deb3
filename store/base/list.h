/* store/base/list.h: a doubly linked list through links embedded in its members. */
#ifndef LOQUAT_BASE_LIST_H
#define LOQUAT_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "store/base/check.h"

struct list_link {
    struct list_link *prev, *next; /* NULL: in no list */
};
struct list {
    struct list_link head;
};

static inline void list_init(struct list *list)
{
    list->head.prev = list->head.next = &list->head;
}
static inline bool list_empty(const struct list *list)
{
    return list->head.next == &list->head;
}
static inline void list_push(struct list *list, struct list_link *link) /* at the end */
{
    link->prev = list->head.prev;
    link->next = &list->head;
    link->prev->next = link;
    list->head.prev = link;
}
static inline void list_put_after(struct list_link *before, struct list_link *link)
{
    link->prev = before;
    link->next = before->next;
    link->next->prev = link;
    before->next = link;
}
static inline void list_remove(struct list_link *link)
{
    ASSERT(link->prev != NULL); /* it is in a list */
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}
static inline struct list_link *list_first(const struct list *list) /* NULL when empty */
{
    return list_empty(list) ? NULL : list->head.next;
}
static inline struct list_link *list_pop(struct list *list)
{
    struct list_link *link = list_first(list);
    if (link != NULL)
        list_remove(link);
    return link;
}
static inline struct list_link *list_next(const struct list *list, const struct list_link *link)
{
    return link->next == &list->head ? NULL : link->next;
}

#endif
