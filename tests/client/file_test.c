/* Files of an import and an export: plain, compressed, broken. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/client/sink.h"
#include "store/client/source.h"

static char folder[] = "/tmp/loquat-file-XXXXXX";
static char path[128];

static void name(const char *file)
{
    snprintf(path, sizeof path, "%s/%s", folder, file);
}

static void setup(void)
{
    cr_assert(mkdtemp(folder) != NULL);
}

static void clean_up(void)
{
    static const char *const NAMES[] = {"a.jsonl", "a.jsonl.zst"};
    for (int i = 0; i < 2; i++) {
        name(NAMES[i]);
        unlink(path);
    }
    cr_assert(eq(int, rmdir(folder), 0)); /* no .part is left either */
}

TestSuite(file, .init = setup, .fini = clean_up);

static void write_lines(int count)
{
    struct sink *sink = sink_open(path);
    struct buf line = {0};
    cr_assert(sink != NULL);
    for (int i = 0; i < count; i++) {
        line.n = 0;
        buf_addf(&line, "line %d with the same words again and again\n", i);
        cr_assert(sink_write(sink, buf_span(&line)));
    }
    buf_close(&line);
    cr_assert(sink_close(sink, true));
}

static int read_lines(int *count)
{
    struct source *source = source_open(path);
    struct span line;
    char want[64];
    int got;
    cr_assert(source != NULL);
    for (*count = 0; (got = source_line(source, &line)) == 1; ++*count) {
        snprintf(want, sizeof want, "line %d with the same words again and again", *count);
        cr_assert(span_is(line, want), "%.*s", (int)line.n, line.p);
    }
    if (got == 0)
        cr_assert(eq(u64, source_at(source), source_size(source)));
    else
        cr_assert(ne(str, (char *)source_why(source), ""));
    source_close(source);
    return got;
}

Test(file, plain_there_and_back)
{
    int count;
    name("a.jsonl");
    write_lines(100000);
    cr_assert(eq(int, read_lines(&count), 0));
    cr_assert(eq(int, count, 100000));
}

Test(file, packed_there_and_back)
{
    int count;
    name("a.jsonl.zst");
    write_lines(100000);
    cr_assert(eq(int, read_lines(&count), 0));
    cr_assert(eq(int, count, 100000));
}

/* A compressed file that was cut says so, whatever was read before. */
Test(file, cut_file_is_an_error)
{
    int count;
    name("a.jsonl.zst");
    write_lines(100000);
    FILE *file = fopen(path, "r+b");
    fseek(file, 0, SEEK_END);
    cr_assert(eq(int, ftruncate(fileno(file), ftell(file) / 2), 0));
    fclose(file);
    cr_assert(eq(int, read_lines(&count), ERR_CORRUPT));
}

/* An export that failed leaves no file under the name. */
Test(file, half_an_export_is_no_file)
{
    name("a.jsonl");
    struct sink *sink = sink_open(path);
    cr_assert(sink_write(sink, span_str("x\n")));
    sink_close(sink, false);
    cr_assert(ne(int, access(path, F_OK), 0));
}

/* A last line needs no newline; a line without end is refused. */
Test(file, ends_of_lines)
{
    struct span line;
    name("a.jsonl");
    FILE *file = fopen(path, "wb");
    fputs("one\n\ntwo", file);
    fclose(file);
    struct source *source = source_open(path);
    cr_assert(eq(int, source_line(source, &line), 1));
    cr_assert(eq(int, source_line(source, &line), 1));
    cr_assert(eq(sz, line.n, 0));
    cr_assert(eq(int, source_line(source, &line), 1));
    cr_assert(span_is(line, "two"));
    cr_assert(eq(int, source_line(source, &line), 0));
    source_close(source);
    file = fopen(path, "wb");
    for (int i = 0; i <= SOURCE_LINE_MAX; i++)
        fputc('x', file);
    fclose(file);
    source = source_open(path);
    cr_assert(eq(int, source_line(source, &line), ERR_TOO_LARGE));
    source_close(source);
}
