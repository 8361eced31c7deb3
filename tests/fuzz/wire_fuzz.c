/* Messages of wire.proto from anyone: what unpacks packs again, to bytes that stay the same;
 * records that are not as they were written are refused. First byte: which message; 0 a record as
 * it is on disk, 1 the same with a right checksum. */
#include <stdlib.h>
#include <xxhash.h>

#include "store/base/check.h"
#include "store/base/err.h"
#include "store/base/record.h"
#include "store/base/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const MESSAGES[] = {
    &loquat__record__descriptor,  &loquat__hello__descriptor,      &loquat__write__descriptor,
    &loquat__read__descriptor,    &loquat__sub__descriptor,        &loquat__unsub__descriptor,
    &loquat__credit__descriptor,  &loquat__reply__descriptor,      &loquat__tail__descriptor,
    &loquat__command__descriptor, &loquat__mark_event__descriptor,
};
enum { MESSAGES_COUNT = sizeof MESSAGES / sizeof *MESSAGES };

static void pack(const ProtobufCMessage *message, struct buf *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    out->n = 0;
    ASSERT(protobuf_c_message_pack(message, (uint8_t *)buf_grow(out, size)) == size);
}

static void check_message(const ProtobufCMessageDescriptor *descriptor, struct span bytes)
{
    struct buf once = {0}, twice = {0};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, NULL, bytes.n, (const uint8_t *)bytes.p);
    if (message == NULL)
        return;
    pack(message, &once);
    protobuf_c_message_free_unpacked(message, NULL);
    message = protobuf_c_message_unpack(descriptor, NULL, once.n, (const uint8_t *)once.p);
    if (message != NULL) { /* protobuf-c takes a field number 0 in two bytes, not in one */
        pack(message, &twice);
        protobuf_c_message_free_unpacked(message, NULL);
        ASSERT(span_eq(buf_span(&once), buf_span(&twice)));
    }
    buf_close(&once);
    buf_close(&twice);
}

/* store/base/wire.h takes and gives the same bytes as protobuf does. */
static void check_wire(const ProtobufCMessageDescriptor *descriptor, struct span bytes)
{
    struct arena arena;
    struct buf wanted = {0}, got = {0};
    struct write_view write;
    const ProtobufCMessage *other = NULL;
    ProtobufCMessage *message =
        protobuf_c_message_unpack(descriptor, NULL, bytes.n, (const uint8_t *)bytes.p);
    arena_init(&arena);
    if (descriptor == &loquat__command__descriptor)
        other = (const ProtobufCMessage *)command_unpack(bytes, &arena);
    else if (descriptor == &loquat__reply__descriptor)
        other = (const ProtobufCMessage *)reply_unpack(bytes, &arena);
    else if (descriptor == &loquat__write__descriptor && write_unpack(bytes, &write))
        ASSERT(message == NULL || /* refused for a field that a Write does not have */
               (write.id == ((Loquat__Write *)message)->id &&
                write.partition == ((Loquat__Write *)message)->partition &&
                write.command.n == ((Loquat__Write *)message)->command.len));
    if (descriptor == &loquat__command__descriptor || descriptor == &loquat__reply__descriptor) {
        ASSERT((message == NULL) == (other == NULL));
        if (message != NULL) {
            pack(message, &wanted);
            pack(other, &got);
            ASSERT(span_eq(buf_span(&got), buf_span(&wanted)));
            got.n = 0;
            if (descriptor == &loquat__command__descriptor)
                command_pack((const Loquat__Command *)other, &got);
            else
                reply_pack((const Loquat__Reply *)other, &got);
            ASSERT(span_eq(buf_span(&got), buf_span(&wanted)));
        }
    }
    if (message != NULL)
        protobuf_c_message_free_unpacked(message, NULL);
    arena_close(&arena);
    buf_close(&wanted);
    buf_close(&got);
}

static bool same(const struct record_view *view, const Loquat__Record *record)
{
    struct span rest = view->mentions, user;
    size_t mentions = 0;
    while (record_mention(&rest, &user))
        mentions++;
    return view->kind == record->kind && view->expires == record->expires &&
           view->erased == (record->erased != 0) && view->stripped == (record->stripped != 0) &&
           view->ts == record->ts && view->mid_off == record->mid_off && view->gap == record->gap &&
           view->reply == record->reply && view->thread == record->thread &&
           view->target == record->target && view->body.n == record->body.len &&
           view->from.n >= strlen(record->from) && view->cid.n >= strlen(record->cid) &&
           view->xkind.n >= strlen(record->xkind) && mentions == record->n_mentions;
}

static void check_record(struct span bytes)
{
    Loquat__Record *record = NULL;
    int err = record_decode(bytes, NULL, &record);
    ASSERT(err == (record != NULL ? 0 : ERR_CORRUPT));
    struct record_view view;
    int viewed = record_view(bytes, &view);
    if (err != 0)
        return;
    ASSERT(viewed != 0 || same(&view, record));
    ASSERT(record_check(bytes) == 0);
    struct buf again = {0};
    struct span xkind;
    record_encode(record, &again);
    ASSERT(record_check(buf_span(&again)) == 0);
    if (viewed == 0) /* else protobuf-c was lenient, and packs again what it did not know */
        ASSERT(record_view(buf_span(&again), &view) == 0 && same(&view, record));
    ASSERT(record_mid(record->ts, record->mid_off, 3) >> 12 << 54 == (uint64_t)3 << 54);
    record_n(record, 1);
    const char *name = kind_name(record->kind);
    if (name != NULL && record->kind != LOQUAT__KIND__KIND_X)
        ASSERT(kind_of(span_str(name), &xkind) == record->kind);
    buf_close(&again);
    loquat__record__free_unpacked(record, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct buf bytes = {0};
    if (data[0] == 1) {
        char head[RECORD_HEAD_SIZE] = {RECORD_VERSION};
        put_le32(head + 1, (uint32_t)XXH3_64bits(data + 1, size - 1));
        buf_add(&bytes, head, sizeof head);
    }
    buf_add(&bytes, data + 1, size - 1);
    char *copy = xmalloc(bytes.n); /* of exactly that size */
    if (bytes.n > 0)
        memcpy(copy, bytes.p, bytes.n);
    if (data[0] < 2)
        check_record(span_of(copy, bytes.n));
    else {
        check_message(MESSAGES[data[0] % MESSAGES_COUNT], span_of(copy, bytes.n));
        check_wire(MESSAGES[data[0] % MESSAGES_COUNT], span_of(copy, bytes.n));
    }
    free(copy);
    buf_close(&bytes);
    return 0;
}
