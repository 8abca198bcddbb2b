/* Dates as HTTP writes them. */
#include "http/date.h"

#include <stdio.h>
#include <time.h>

void date_write(uint64_t wall_ms, char out[DATE_TEXT_MAX])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    snprintf(out, DATE_TEXT_MAX, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
        days + 3 * (tm.tm_wday % 7), tm.tm_mday % 100, months + 3 * (tm.tm_mon % 12),
        (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
}

struct str date_cached(struct date_cache *c, uint64_t wall_ms)
{
    if (c->second != wall_ms / 1000 || c->text[0] == '\0') {
        c->second = wall_ms / 1000;
        date_write(wall_ms, c->text);
    }
    return str_of(c->text);
}
