/* Any bytes as a settings file: taken with every value in range, or refused with the place. */
#include "store/base/check.h"
#include "store/base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char at[] = "127.0.0.1:8080";
    char *listen = at, *file = NULL, why[512] = "";
    uint64_t partitions = 16, limit = 0;
    bool demo = false;
    const struct config_option options[] = {
        {"listen", 'l', CONFIG_STRING, "HOST:PORT", "Where to serve", &listen, 1, 40},
        {"file", 0, CONFIG_STRING, "FILE", "A file", &file, 0, 0},
        {"partitions", 'p', CONFIG_UINT, "N", "Partitions", &partitions, 1, 1024},
        {"limit", 0, CONFIG_UINT, "N", "Without a bound", &limit, 0, 0},
        {"demo", 'd', CONFIG_FLAG, NULL, "With demo users", &demo, 0, 0},
        {0},
    };
    if (config_read("x.yaml", span_of(data, size), options, why, sizeof why) == 0) {
        ASSERT(partitions >= 1 && partitions <= 1024);
        ASSERT(strlen(listen) >= 1 && strlen(listen) <= 40);
    } else {
        ASSERT(strncmp(why, "x.yaml:", 7) == 0);
        ASSERT(listen == at && file == NULL && partitions == 16 && limit == 0 && !demo);
    }
    return 0;
}
