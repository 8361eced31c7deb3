/* What a start makes of a journal that a crash or a disk left: what may be so, what can't. */
#include "replication/journal_frame.h"
#include "tests/replication/journal_lib.h"

TestSuite(journal_damage, .init = setup, .fini = teardown, .timeout = 120);

/* ---- crashes ---- */

/* A frame that came to the disk in part only was never told of: it goes, whichever part it is. */
Test(journal_damage, torn_frame_goes)
{
    opens_with(0, 0);
    begin();
    put(SMALL);
    put(3 * JOURNAL_BLOCK);
    put(3 * JOURNAL_BLOCK); /* and the head: four */
    crash();
    uint64_t last = written[2].at - JOURNAL_HEAD;
    for (unsigned some = 1; some < 16; some++) { /* which blocks are missing */
        copy_bytes(last, 9ull << 32, 4ul * JOURNAL_BLOCK);
        for (uint64_t i = 0; i < 4; i++)
            if ((some >> i & 1) != 0)
                zero_blocks(last + i * JOURNAL_BLOCK, 1);
        move_file(9, "kept", false);
        opens_with(0, 2);
        move_file(9, "kept", true);
        copy_bytes(9ull << 32, last, 4ul * JOURNAL_BLOCK);
        remove_file(9);
    }
    opens_with(0, 3);
    zero_blocks(last, 2);
    for (int life = 0; life < 2; life++) { /* what was cut away is not there later either */
        opens_with(0, 2 + (size_t)life);
        begin();
        cr_assert(eq(u64, journal_segment(batch.at), 2 + (uint64_t)life));
        put(SMALL);
        crash();
    }
    opens_with(0, 4);
    cr_assert(eq(i64, stat_of(1).st_size, 5 * JOURNAL_BLOCK));
}

/* A segment that was made and never written is nothing; its number is the next one's. */
Test(journal_damage, made_and_not_written)
{
    cut(1, JOURNAL_SEGMENT);
    opens_with(0, 0);
    begin();
    cr_assert(eq(u64, journal_segment(batch.at), 1));
    put(SMALL);
    opens_with(0, 1);
    begin();
    cut(2, JOURNAL_SEGMENT);
    scratch_write(dir, "new", "half a segment");
    for (int life = 0; life < 2; life++) {
        opens_with(0, 1);
        begin();
        cr_assert(eq(u64, journal_segment(batch.at), 2));
        segments_are(1, 1);
        cr_assert(not(scratch_has(dir, "new")));
    }
    put(SMALL);
    opens_with(0, 2);
}

/* A power cut may bring back what was deleted, some of it: what lies below a hole is ignored, and
 * goes; what is not is read, as it was. */
Test(journal_damage, brought_back)
{
    char name[16];
    make_segments(7);
    crash();
    for (uint64_t segment = 1; segment < 5; segment++) { /* copies, to be brought back */
        cut(100 + segment, JOURNAL_BLOCK);
        copy_bytes(segment << 32, (100 + segment) << 32, JOURNAL_BLOCK);
        snprintf(name, sizeof name, "%" PRIu64, segment);
        move_file(100 + segment, name, false);
    }
    opens_with(0, 7);
    begin();
    journal_release(journal, 5);
    put(SMALL);
    opens_with(4, 8);
    segments_are(5, 8);
    move_file(1, "1", true);
    move_file(3, "3", true);
    opens_with(4, 8);
    begin();
    segments_are(5, 8);
    put(SMALL);
    move_file(4, "4", true);
    opens_with(3, 9);
}

/* ---- damage ---- */

/* In order closed there is no frame that could be half there: no bit of it flips unseen. */
Test(journal_damage, flipped_bit_in_a_closed_one)
{
    make_segments(2);
    put(JOURNAL_BLOCK);
    opens_with(0, 3);
    for (uint64_t segment = 1; segment <= 2; segment++) {
        for (uint64_t i = 0; i < (uint64_t)stat_of(segment).st_size; i++) {
            uint64_t at = segment << 32 | i;
            flip(at, i % 8);
            refused(segment);
            flip(at, i % 8);
        }
    }
    opens_with(0, 3);
}

/* After a crash only the last frame can be: a flipped bit in one before it is damage. */
Test(journal_damage, flipped_bit_after_a_crash)
{
    opens_with(0, 0);
    begin();
    put(SMALL);
    put(5 * JOURNAL_BLOCK);
    put(SMALL);
    crash();
    uint64_t end = written[2].at - JOURNAL_HEAD;
    for (int i = 0; i < 60; i++) {
        uint64_t at = (end & ~(uint64_t)UINT32_MAX) + dice_roll(&seed, end & UINT32_MAX);
        unsigned bit = (unsigned)dice_roll(&seed, 8);
        flip(at, bit);
        refused(1);
        flip(at, bit);
    }
    flip(written[2].at, 3);
    opens_with(0, 2);
}

/* A full segment tells by the next one that its last frame was there. */
Test(journal_damage, last_frame_of_a_full_segment)
{
    opens_with(0, 0);
    begin();
    put(BIG);
    put(BIG);
    put(SMALL);
    crash();
    flip(written[1].at + BIG - 1, 0);
    refused(1);
    flip(written[1].at + BIG - 1, 0);
    opens_with(0, 3);
    zero_blocks(2ull << 32, 1); /* nothing is told of it by a frame that is not there */
    opens_with(0, 2);
}

/* A segment that is missing, or empty, or ends early, is found, whichever it is: but for the
 * newest, of which nobody else tells. */
Test(journal_damage, missing_segments)
{
    enum { COUNT = 5 };
    make_segments(COUNT);
    put(SMALL);
    opens_with(0, COUNT + 1);
    for (uint64_t segment = 1; segment < COUNT; segment++) {
        move_file(segment, "away", false);
        refused(segment);
        cut(segment, 0);
        refused(segment);
        cut(segment, JOURNAL_BLOCK);
        refused(segment);
        cut(segment, JOURNAL_SEGMENT);
        refused(segment);
        move_file(segment, "away", true);
    }
    cut(COUNT, JOURNAL_BLOCK + 1);
    refused(COUNT);
    cut(COUNT, JOURNAL_BLOCK - 1);
    refused(COUNT);
}

/* The same when the oldest ones are gone already. */
Test(journal_damage, missing_segment_among_those_needed)
{
    make_segments(6);
    journal_release(journal, 3);
    put(SMALL);
    opens_with(2, 7);
    for (uint64_t segment = 3; segment < 6; segment++) {
        move_file(segment, "away", false);
        refused(segment);
        move_file(segment, "away", true);
    }
    opens_with(2, 7);
}

/* A frame counts only where it was written: not in another segment, not at another place, and not
 * behind those of another attempt. */
Test(journal_damage, frames_from_elsewhere)
{
    make_segments(2);
    put(SMALL);
    crash();
    cut(3, JOURNAL_SEGMENT);
    copy_bytes(1ull << 32, 3ull << 32, JOURNAL_BLOCK);
    opens_with(0, 3);
    remove_file(3);
    copy_bytes(2ull << 32 | JOURNAL_BLOCK, 2ull << 32 | 2 * JOURNAL_BLOCK, JOURNAL_BLOCK);
    opens_with(0, 3);
    copy_bytes(2ull << 32 | JOURNAL_BLOCK, 4ull << 32, JOURNAL_BLOCK);
    move_file(4, "other", false);
    scratch_remove(dir);
    cr_assert(zero(int, mkdir(dir, 0700)));
    written_count = 0;
    make_segments(2); /* the same places, and another number at random */
    crash();
    move_file(4, "other", true);
    copy_bytes(4ull << 32, 2ull << 32 | JOURNAL_BLOCK, JOURNAL_BLOCK);
    remove_file(4);
    opens_with(0, 2);
}

/* What somebody wrote may look like a whole frame behind one that a crash left half there. */
Test(journal_damage, payload_that_looks_like_a_frame)
{
    struct journal_batch fake = {0};
    uint64_t at;
    opens_with(0, 0);
    begin();
    put(SMALL);
    journal_batch_begin(&fake, batch.at + JOURNAL_BLOCK);
    memset(journal_batch_grow(&fake, SMALL, &at), 'x', SMALL);
    size_t n = journal_frame_seal(&fake, &(struct journal_frame){.nonce = 5, .needed = 1});
    memset(journal_batch_grow(&batch, JOURNAL_BLOCK - JOURNAL_HEAD, &at), 'y',
           JOURNAL_BLOCK - JOURNAL_HEAD);
    memcpy(journal_batch_grow(&batch, n, &at), fake.p, n);
    cr_assert(eq(u64, at, fake.at));
    journal_batch_close(&fake);
    cr_assert(zero(int, write_batch()));
    crash();
    opens_with(0, 2);
    zero_blocks(written[1].at - JOURNAL_HEAD, 1);
    opens_with(0, 1);
}
