/* A span of time as people say it: "3 days", "8 min 18 s". */
#ifndef POSTERN_CORE_SPAN_H
#define POSTERN_CORE_SPAN_H

enum { SPAN_LEN = 48 };

/* About how long: "59 min", "3 h", "2 years". Returns `buf`. */
const char *span_about(unsigned long long s, char buf[static SPAN_LEN]);
/* To the next smaller unit, where there is something of it: "8 min 18 s". Likewise. */
const char *span_exact(unsigned long long s, char buf[static SPAN_LEN]);

/*
 * Two clocks of which nobody knows which is right; `skew_s` is positive where this
 * machine's is behind. To the nearest unit: "this machine's clock or the broker's is
 * wrong: they are 2 h apart, this one behind". Returns `buf`.
 */
enum { SPAN_CLOCKS_LEN = 128 };
const char *span_clocks(long long skew_s, char buf[static SPAN_CLOCKS_LEN]);
/* The same length of time alone. */
const char *span_apart(long long skew_s, char buf[static SPAN_LEN]);

#endif
