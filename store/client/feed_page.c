#include "store/client/feed_page.h"

#include "store/base/err.h"
#include "store/client/answer.h"

static int take_record(struct json *json, const struct json_val *val,
                       struct loquat_feed_record *out)
{
    struct json_obj obj, inner;
    struct loquat_text nowhere = {0};
    if (val->type != JSON_OBJECT || json_open(json, val, &obj) != 0)
        return ERR_BAD_REQUEST;
    const struct json_val *record = json_get(&obj, "record");
    out->offset = answer_number(&obj, "offset");
    if (out->offset == 0 || record == NULL || json_open(json, record, &inner) != 0 ||
        !record_parse(json, &inner, record->raw, nowhere, &out->record))
        return ERR_BAD_REQUEST;
    return 0;
}

int feed_page_parse(struct feed_page *page, struct json *json, struct span text)
{
    struct json_obj obj;
    page->count = 0;
    if (json_parse(json, text.p, text.n, &obj) != 0)
        return ERR_BAD_REQUEST;
    const struct json_val *records = json_get(&obj, "records"), *next = json_get(&obj, "next");
    if (records == NULL || next == NULL || !next->is_whole || next->whole < 0)
        return ERR_BAD_REQUEST;
    int n = json_items(json, records, page->vals, FEED_PAGE_RECORDS);
    if (n < 0 || n > FEED_PAGE_RECORDS)
        return ERR_BAD_REQUEST;
    page->next = (uint64_t)next->whole;
    page->head = answer_number(&obj, "head");
    int err = 0;
    for (int i = 0; i < n && err == 0; i++)
        err = take_record(json, &page->vals[i], &page->records[i]);
    page->count = err == 0 ? (size_t)n : 0;
    return err;
}
