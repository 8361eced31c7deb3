#include "store/client/feed_page.h"

#include "store/base/err.h"
#include "store/client/answer.h"
#include "store/client/print.h"

int feed_page_parse(struct feed_page *page, struct json *json, struct span text)
{
    struct json_obj obj;
    page->count = 0;
    if (json_parse(json, text.p, text.n, &obj) != 0)
        return ERR_BAD_REQUEST;
    const struct json_val *records = json_get(&obj, "records"), *next = json_get(&obj, "next");
    if (records == NULL || next == NULL || !next->is_whole || next->whole < 0)
        return ERR_BAD_REQUEST;
    int n = json_items(json, records, page->records, FEED_PAGE_RECORDS);
    if (n < 0 || n > FEED_PAGE_RECORDS)
        return ERR_BAD_REQUEST;
    page->next = (uint64_t)next->whole;
    page->head = answer_number(&obj, "head");
    page->count = (size_t)n;
    return 0;
}

int feed_page_record(const struct feed_page *page, struct json *json, size_t i, uint64_t *offset,
                     struct loquat_record *record)
{
    struct json_obj obj, inner;
    if (page->records[i].type != JSON_OBJECT || json_open(json, &page->records[i], &obj) != 0)
        return ERR_BAD_REQUEST;
    const struct json_val *val = json_get(&obj, "record");
    *offset = answer_number(&obj, "offset");
    if (*offset == 0 || val == NULL || val->type != JSON_OBJECT ||
        json_open(json, val, &inner) != 0)
        return ERR_BAD_REQUEST;
    struct loquat_text nowhere = {0};
    return record_parse(json, &inner, val->raw, nowhere, record) ? 0 : ERR_BAD_REQUEST;
}

void feed_print(struct buf *out, struct json *spare, bool as_json, uint32_t partition,
                uint64_t offset, const struct loquat_record *record)
{
    if (as_json) {
        buf_addf(out, "{\"p\":%u,\"offset\":%llu,\"record\":", partition,
                 (unsigned long long)offset);
        buf_add(out, record->json.p, record->json.n);
        buf_add_str(out, "}\n");
        return;
    }
    buf_addf(out, "%3u %12llu  ", partition, (unsigned long long)offset);
    print_safe(out, span_of(record->c.p, record->c.n), "");
    print_record(out, spare, record);
}
