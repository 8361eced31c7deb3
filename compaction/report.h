/* compaction/report.h: a Report for people, or as one JSON object. */
#ifndef LOQUAT_COMPACTION_REPORT_H
#define LOQUAT_COMPACTION_REPORT_H

#include "store/base/buf.h"
#include "wire.pb-c.h"

struct report_about {
    uint32_t op; /* what was asked */
    const char *dir;
    bool running; /* a node had the directory */
};
void report_text(const struct report_about *about, const Loquat__Report *report, struct buf *out);
void report_json(const struct report_about *about, const Loquat__Report *report, struct buf *out);

uint64_t report_gone(const Loquat__Report *report); /* bytes that can go, or went */

#endif
