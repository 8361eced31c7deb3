#include "store/base/list.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "store/base/check.h"

struct item {
    int value;
    struct list_link link;
};

static struct list list;
static struct item items[4];

static void setup(void)
{
    list_init(&list);
    for (int i = 0; i < 4; i++)
        items[i] = (struct item){.value = i};
}

TestSuite(list, .init = setup);

/* The values in order, as decimal digits. */
static int values(void)
{
    int all = 0;
    for (struct list_link *link = list_first(&list); link != NULL; link = list_next(&list, link))
        all = 10 * all + container_of(link, struct item, link)->value + 1;
    return all;
}

Test(list, order_is_that_of_pushing)
{
    cr_assert(list_empty(&list));
    cr_assert(eq(ptr, list_first(&list), NULL));
    cr_assert(eq(ptr, list_pop(&list), NULL));
    for (int i = 0; i < 4; i++)
        list_push(&list, &items[i].link);
    cr_assert(eq(int, values(), 1234));
    cr_assert(eq(ptr, list_pop(&list), &items[0].link));
    cr_assert(eq(int, values(), 234));
}

/* From the front, the middle and the end; what is out says so and may come again. */
Test(list, members_leave_from_anywhere)
{
    for (int i = 0; i < 4; i++)
        list_push(&list, &items[i].link);
    list_remove(&items[1].link);
    cr_assert(eq(ptr, items[1].link.next, NULL));
    cr_assert(eq(int, values(), 134));
    list_remove(&items[3].link);
    list_remove(&items[0].link);
    cr_assert(eq(int, values(), 3));
    list_push(&list, &items[1].link);
    cr_assert(eq(int, values(), 32));
    cr_assert(eq(ptr, list_pop(&list), &items[2].link));
    cr_assert(eq(ptr, list_pop(&list), &items[1].link));
    cr_assert(list_empty(&list));
}
